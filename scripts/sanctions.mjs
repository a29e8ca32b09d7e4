// npm run sanctions -- FILE|URL: rebuilds crates/core/data/sanctions.json from the Treasury's
// export SDN_ADVANCED.XML (about 80 MB, read as a stream).
import { createHash } from "node:crypto";
import { createReadStream, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { getBase58Encoder } from "@solana/kit";
import sax from "sax";

/**
 * Reads the export: features whose type is "Digital Currency Address - XXX" of
 * any XXX. EVM addresses are taken from all of them, Solana's from SOL features.
 */
export async function extract(stream) {
  const hash = createHash("sha256");
  const parser = sax.parser(true, { xmlns: false });
  const types = new Map();
  const [evm, solana] = [new Set(), new Set()];
  let [typeId, feature, text] = ["", "", ""];
  /** @type {{ Year?: string, Month?: string, Day?: string }} */
  const date = {};
  const local = (name) => name.replace(/^.*:/, "");
  const path = [];
  parser.onopentag = ({ name, attributes }) => {
    const own = local(name);
    path.push(own);
    text = "";
    if (own === "FeatureType") typeId = String(attributes.ID);
    if (own === "Feature") feature = types.get(attributes.FeatureTypeID) ?? "";
  };
  parser.ontext = (part) => (text += part);
  parser.onclosetag = (name) => {
    const own = local(name);
    path.pop();
    const value = text.trim();
    text = "";
    if (own === "FeatureType" && value.startsWith("Digital Currency Address"))
      types.set(typeId, value.slice(value.lastIndexOf("-") + 1).trim());
    if (path.at(-1) === "DateOfIssue" && ["Year", "Month", "Day"].includes(own)) date[own] ??= value.padStart(2, "0");
    if (own === "VersionDetail" && feature) {
      if (/^0x[0-9a-fA-F]{40}$/.test(value)) evm.add(value.toLowerCase());
      else if (feature === "SOL" && isSolana(value)) solana.add(value);
    }
    if (own === "Feature") feature = "";
  };
  parser.onerror = (error) => {
    throw error;
  };
  for await (const chunk of stream) {
    hash.update(chunk);
    parser.write(chunk.toString("utf8"));
  }
  parser.close();
  if (!date.Year || evm.size === 0) throw new Error("this is no SDN_ADVANCED.XML: no date of issue, or no address");
  const sorted = (set) => [...set].sort();
  return { list_date: `${date.Year}-${date.Month}-${date.Day}`, sha256: hash.digest("hex"), evm: sorted(evm), solana: sorted(solana) };
}

function isSolana(text) {
  try {
    return getBase58Encoder().encode(text).length === 32;
  } catch {
    return false;
  }
}

async function download(url) {
  const { body, status } = await fetch(url);
  if (body === null) throw new Error(`${url}: HTTP ${status} without a body`);
  return Readable.fromWeb(/** @type {import("node:stream/web").ReadableStream} */ (body));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const from = process.argv[2];
  if (!from) {
    console.error("usage: npm run sanctions -- FILE|URL of SDN_ADVANCED.XML");
    process.exit(1);
  }
  const list = await extract(/^https:/.test(from) ? await download(from) : createReadStream(from));
  const source = "US Treasury, OFAC SDN list (SDN_ADVANCED.XML), 'Digital Currency Address' entries; rebuilt by `npm run sanctions`";
  const file = join(import.meta.dirname, "..", "crates", "core", "data", "sanctions.json");
  writeFileSync(file, `${JSON.stringify({ source, ...list }, null, 1)}\n`);
  console.log(`${list.evm.length} EVM and ${list.solana.length} Solana addresses of ${list.list_date}`);
}
