// The list is rebuilt from an export of the Treasury's form.
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { extract } from "../scripts/sanctions.mjs";

const XML = `<?xml version="1.0" encoding="utf-8"?>
<Sanctions xmlns="urn:x"><DateOfIssue CalendarTypeID="1"><Year>2026</Year><Month>8</Month><Day>20</Day></DateOfIssue>
<ReferenceValueSets><FeatureTypeValues>
<FeatureType ID="345" FeatureTypeGroupID="1">Digital Currency Address - ETH</FeatureType>
<FeatureType ID="992" FeatureTypeGroupID="1">Digital Currency Address - USDC</FeatureType>
<FeatureType ID="344" FeatureTypeGroupID="1">Digital Currency Address - XBT</FeatureType>
<FeatureType ID="9999" FeatureTypeGroupID="1">Digital Currency Address - SOL</FeatureType>
<FeatureType ID="8" FeatureTypeGroupID="1">Birthdate</FeatureType></FeatureTypeValues></ReferenceValueSets>
<DistinctParties><DistinctParty FixedRef="1"><Profile ID="1">
<Feature ID="1" FeatureTypeID="345"><FeatureVersion><VersionDetail DetailTypeID="1432">0x098B716B8Aaf21512996dC57EB0615e2383E2f96</VersionDetail></FeatureVersion></Feature>
<Feature ID="2" FeatureTypeID="992"><FeatureVersion><VersionDetail DetailTypeID="1432">0x098b716b8aaf21512996dc57eb0615e2383e2f96</VersionDetail></FeatureVersion></Feature>
<Feature ID="3" FeatureTypeID="344"><FeatureVersion><VersionDetail DetailTypeID="1432">12QtD5BFwRsdNsAZY76UVE1xyCGNTojH9h</VersionDetail></FeatureVersion></Feature>
<Feature ID="4" FeatureTypeID="9999"><FeatureVersion><VersionDetail DetailTypeID="1432">42RLPACwZPx3vYYmxSueqsogfynBDqXK298EDsNoyoHi</VersionDetail></FeatureVersion></Feature>
<Feature ID="5" FeatureTypeID="8"><FeatureVersion><VersionDetail DetailTypeID="1432">0x1111111111111111111111111111111111111111</VersionDetail></FeatureVersion></Feature>
</Profile></DistinctParty></DistinctParties></Sanctions>`;

const parts = (size) => Readable.from([...XML.matchAll(new RegExp(`[\\s\\S]{1,${size}}`, "g"))].map(([part]) => Buffer.from(part)));

test("every digital currency's EVM address and Solana's own are taken, once, in any pieces", async () => {
  for (const size of [7, 100_000]) {
    const list = await extract(parts(size));
    assert.equal(list.list_date, "2026-08-20");
    assert.deepEqual(list.evm, ["0x098b716b8aaf21512996dc57eb0615e2383e2f96"]);
    assert.deepEqual(list.solana, ["42RLPACwZPx3vYYmxSueqsogfynBDqXK298EDsNoyoHi"]);
    assert.equal(list.sha256.length, 64);
  }
});

test("what is no export leaves no list", async () => {
  await assert.rejects(extract(Readable.from([Buffer.from("<html></html>")])));
});
