// Payments on a real Solana runtime (LiteSVM), judged by the real Worker.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { getCreateAssociatedTokenIdempotentInstruction, getMintToInstruction } from "@solana-program/token";
import {
  AuthorityType,
  MINT,
  TOKEN_2022_PROGRAM,
  feeMintBytes,
  getCloseAccountInstruction,
  getSetAuthorityInstruction,
  getTransferCheckedInstruction,
  getBatchInstruction,
  signer,
  startSolana,
} from "../../scripts/lib/solana.mjs";
import { startWorker, until } from "./worker.mjs";

let chain, worker, buyer;
let seeds = 100;

before(async () => {
  chain = await startSolana({ finalityAfter: 1_000_000 });
  buyer = await signer(5);
  await chain.fund(buyer.address, 1_000_000000n);
  worker = await startWorker({ vars: { RPC_LOCAL_SOLANA: chain.url } });
});
after(async () => {
  await worker?.stop();
  chain?.stop();
});

async function merchant() {
  const wallet = await signer(seeds++);
  const tenant = await worker.tenant({ recipients: { "local-solana": wallet.address } });
  const ask = (tx_hash, body = {}) => worker.verify(tenant.test, { tx_hash, chain: "local-solana", ...body }).then(({ body }) => body);
  return { ...tenant, wallet, to: wallet.address, ask };
}

const cheat = (method, ...params) => fetch(chain.url, { method: "POST", body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }) });

test("legacy, version-0 and version-1 payments are read alike", async () => {
  for (const version of ["legacy", 0, 1]) {
    const { to, ask } = await merchant();
    const signature = await chain.pay({ from: buyer, to, amount: 1_500000n, memo: "order-7", version });
    const body = await ask(signature, { expected_amount: "1.5", memo: "order-7" });
    assert.deepEqual(
      [body.success, body.amount, body.binding, body.from_address],
      [true, "1500000", "memo", buyer.address],
      `version ${version}`,
    );
    assert.equal((await ask(signature, { memo: "order-8" })).error_code, "MEMO_MISMATCH");
    assert.equal(body.transfers[0].token_account, await chain.ata(to));
  }
});

test("a batch that hides transfers in one instruction is seen by its balances", async () => {
  const { to, ask } = await merchant();
  await chain.run(chain.authority, [await chain.createAta(to)]);
  const [source, destination] = [await chain.ata(buyer.address), await chain.ata(to)];
  const transfer = (amount) => getTransferCheckedInstruction({ source, mint: MINT, destination, authority: buyer, amount, decimals: 6 });
  const signature = await chain.run(buyer, [getBatchInstruction([transfer(2n), transfer(3n)])]);
  assert.equal((await ask(signature)).amount, "5");
});

test("an account that changes hands is no payment", async () => {
  const { to, ask } = await merchant();
  const giver = await signer(seeds++);
  await chain.fund(giver.address, 9_000000n);
  const signature = await chain.run(giver, [
    getSetAuthorityInstruction({
      owned: await chain.ata(giver.address),
      owner: giver,
      authorityType: AuthorityType.AccountOwner,
      newAuthority: to,
    }),
  ]);
  assert.equal((await ask(signature)).error_code, "NO_MATCHING_TRANSFER");
});

test("a payer whose account is closed in the same transaction has paid", async () => {
  const { to, ask } = await merchant();
  const giver = await signer(seeds++);
  await chain.fund(giver.address, 4_000000n);
  const source = await chain.ata(giver.address);
  const signature = await chain.run(giver, [
    await chain.createAta(to),
    getTransferCheckedInstruction({
      source,
      mint: MINT,
      destination: await chain.ata(to),
      authority: giver,
      amount: 4_000000n,
      decimals: 6,
    }),
    getCloseAccountInstruction({ account: source, destination: giver.address, owner: giver }),
  ]);
  const body = await ask(signature, { payer: giver.address });
  assert.deepEqual([body.success, body.amount, body.from_address], [true, "4000000", giver.address]);
});

test("another token, whatever it withholds, is the wrong asset", async () => {
  const { to, ask } = await merchant();
  const mint = (await signer(seeds++)).address;
  chain.placeMint(mint, TOKEN_2022_PROGRAM, feeMintBytes(chain.authority.address, 6, 400));
  const config = { programAddress: TOKEN_2022_PROGRAM };
  const account = async (owner) => ({
    payer: chain.authority,
    ata: await chain.ata(owner, mint, TOKEN_2022_PROGRAM),
    owner,
    mint,
    tokenProgram: TOKEN_2022_PROGRAM,
  });
  const [source, destination] = [await account(buyer.address), await account(to)];
  const signature = await chain.run(chain.authority, [
    getCreateAssociatedTokenIdempotentInstruction(source),
    getCreateAssociatedTokenIdempotentInstruction(destination),
    getMintToInstruction({ mint, token: source.ata, mintAuthority: chain.authority, amount: 400_000000n }, config),
    getTransferCheckedInstruction(
      { source: source.ata, mint, destination: destination.ata, authority: buyer, amount: 384_000000n, decimals: 6 },
      config,
    ),
  ]);
  const balance = await (
    await fetch(chain.url, { method: "POST", body: JSON.stringify({ id: 1, method: "getTokenAccountBalance", params: [destination.ata] }) })
  ).json();
  assert.equal(balance.result.value.amount, "368640000", "four per cent are withheld");
  const body = await ask(signature);
  assert.equal(body.error_code, "WRONG_ASSET");
  assert.match(body.error, new RegExp(mint));
});

test("the fee payer is not the payer", async () => {
  const { to, ask } = await merchant();
  const signature = await chain.pay({ from: buyer, to, amount: 1_000000n, feePayer: chain.authority });
  const body = await ask(signature, { payer: buyer.address });
  assert.deepEqual([body.success, body.from_address, body.binding], [true, buyer.address, "payer"]);
  assert.equal((await ask(signature, { payer: chain.authority.address })).error_code, "PAYER_MISMATCH");
});

test("a payment to oneself, to another and of nobody is none", async () => {
  const { to, wallet, ask } = await merchant();
  await chain.fund(to, 5_000000n);
  const own = await chain.pay({ from: wallet, to, amount: 1_000000n });
  assert.equal((await ask(own)).error_code, "NO_MATCHING_TRANSFER");
  const other = await chain.pay({ from: buyer, to: (await signer(seeds++)).address, amount: 1_000000n });
  assert.equal((await ask(other)).error_code, "NO_MATCHING_TRANSFER");
  assert.equal((await ask("5".repeat(87))).error_code ?? "none", "TX_NOT_FOUND");
});

test("a failed transaction is refused", async () => {
  const { to, ask } = await merchant();
  const poor = await signer(seeds++);
  await chain.fund(poor.address, 1n);
  const signature = await chain.pay({ from: poor, to, amount: 2_000000n });
  assert.equal((await ask(signature)).error_code, "TX_FAILED");
});

test("a forgotten payment is reorged, and finality is followed", async () => {
  const { to, ask, test: key } = await merchant();
  const signature = await chain.pay({ from: buyer, to, amount: 1_000000n });
  const { id, status } = await ask(signature, { reference: "a" });
  assert.equal(status, "confirmed");
  const read = async () => (await worker.call("GET", `/v1/verifications/${id}`, { key })).body;
  await cheat("local_forget", signature);
  await until(async () => (await read()).status === "reorged", "the reorganisation");
  await cheat("local_remember", signature);
  await until(async () => (await read()).status === "confirmed", "the return");
  await cheat("local_setFinality", 0);
  await until(async () => (await read()).status === "finalized", "finality");
});
