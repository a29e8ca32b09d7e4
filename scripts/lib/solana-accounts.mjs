// Solana's well-known accounts, key pairs for the local chain, and the bytes of mints.
import {
  address,
  createKeyPairFromPrivateKeyBytes,
  createKeyPairSignerFromPrivateKeyBytes,
  getAddressEncoder,
  getBase58Decoder,
} from "@solana/kit";

const base58 = getBase58Decoder();
const bytesOf = getAddressEncoder();

/**
 * Reads an address. All are of one type; those of `address` have a type for each text.
 * @type {(text: string) => import("@solana/kit").Address}
 */
const account = address;

/** Where the registry has the local token. */
export const MINT = account("71bbmk2nBz3PmkqbicKiYuqXBtH5XTRzcKjQKZLwPTJY");
export const TOKEN_PROGRAM = account("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
export const TOKEN_2022_PROGRAM = account("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
export const MEMO_PROGRAM = account("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
export const COMPUTE_BUDGET = account("ComputeBudget111111111111111111111111111111");
/** Where Circle's devnet token is: stock clients know no other Solana than the public ones. */
export const DEVNET_MINT = account("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU");

/** A key pair from 32 equal bytes, for tests and the local chain. */
export const signer = (seed) => createKeyPairSignerFromPrivateKeyBytes(new Uint8Array(32).fill(seed));

/** A key pair that nobody has used. */
export const randomSigner = () => createKeyPairSignerFromPrivateKeyBytes(crypto.getRandomValues(new Uint8Array(32)));

/** A key pair as `SOLANA_SIGNERS_TEST` takes it, from its seed. */
export async function keyPairText(seed) {
  const { publicKey } = await createKeyPairFromPrivateKeyBytes(seed, true);
  const own = new Uint8Array(await crypto.subtle.exportKey("raw", publicKey));
  return base58.decode(new Uint8Array([...seed, ...own]));
}

/** A mint account's 82 bytes (SPL token state.rs). */
export function mintBytes(authority, decimals) {
  const data = new Uint8Array(82);
  const view = new DataView(data.buffer);
  view.setUint32(0, 1, true);
  data.set(bytesOf.encode(authority), 4);
  data[44] = decimals;
  data[45] = 1;
  view.setUint32(46, 1, true);
  data.set(bytesOf.encode(authority), 50);
  return data;
}

/** A Token-2022 mint that keeps back a part of every transfer (TransferFeeConfig, extension type 1). */
export function feeMintBytes(authority, decimals, basisPoints) {
  const data = new Uint8Array(166 + 4 + 108);
  data.set(mintBytes(authority, decimals));
  data[165] = 1;
  const view = new DataView(data.buffer);
  view.setUint16(166, 1, true);
  view.setUint16(168, 108, true);
  // Two authorities of nobody, nothing withheld, then the older and the newer fee: epoch, most, basis points.
  for (const at of [170 + 72, 170 + 90]) {
    view.setBigUint64(at + 8, 1_000_000_000n, true);
    view.setUint16(at + 16, basisPoints, true);
  }
  return data;
}
