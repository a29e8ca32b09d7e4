// The local EVM chain mines what anvil would leave queued.
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "viem";
import { randomAccount, startEvm } from "../scripts/lib/evm.mjs";
import { stuckTransactions } from "../scripts/lib/evm-pool.mjs";

test("a queued transaction whose nonce is next is mined, and a later one is left alone", async (t) => {
  const evm = await startEvm();
  t.after(() => evm.stop());
  const send = async (account, nonce) => {
    const call = {
      chainId: 31337,
      to: account.address,
      nonce,
      gas: 21_000n,
      maxFeePerGas: 9n * 10n ** 10n,
      maxPriorityFeePerGas: 10n ** 9n,
    };
    return evm.rpc("eth_sendRawTransaction", [await account.signTransaction({ type: "eip1559", ...call })]);
  };
  const [stuck, early] = [randomAccount(), randomAccount()];
  for (const { address } of [stuck, early]) await evm.rpc("anvil_setBalance", [address, toHex(10n ** 18n)]);
  const waits = await send(early, 5);
  const [first, second] = [await send(stuck, 1), await send(stuck, 2)];
  // As after the race: both stay queued, although the first one's nonce is the account's next.
  await evm.rpc("anvil_setNonce", [stuck.address, toHex(1)]);
  assert.deepEqual([...(await stuckTransactions(evm)).values()], [[first, second]]);
  for (const hash of [first, second]) assert.equal((await evm.mined(hash)).status, "success");
  const { queued } = await evm.rpc("txpool_content");
  assert.deepEqual(
    Object.values(queued).map((all) => Object.values(all).map(({ hash }) => hash)),
    [[waits]],
  );
});
