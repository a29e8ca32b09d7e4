// Sends transactions again that anvil never mines. A transaction that reaches anvil (1.7.1) while the block with the
// nonce before it is mined stays queued for good, although its nonce is the account's next, and so do all that follow it.

/** How often the pool is read. What two reads in a row find queued is sent again. */
const PAUSE_MS = 300;

/**
 * The queued transactions whose nonce is their account's next: a node that works has none.
 * @param {import("./evm.mjs").Evm} evm
 * @returns {Promise<Map<string, string[]>>} by account, the hashes of all its queued transactions, in order of nonces
 */
export async function stuckTransactions(evm) {
  const { queued } = await evm.rpc("txpool_content");
  const stuck = new Map();
  for (const [account, byNonce] of Object.entries(queued)) {
    const nonces = Object.keys(byNonce)
      .map(Number)
      .sort((a, b) => a - b);
    if (nonces[0] !== Number(await evm.rpc("eth_getTransactionCount", [account, "latest"]))) continue;
    stuck.set(
      account,
      nonces.map((nonce) => byNonce[nonce].hash),
    );
  }
  return stuck;
}

/** Takes an account's transactions out of the pool and sends them again. */
async function sendAgain(evm, account, hashes) {
  const raw = await Promise.all(hashes.map((hash) => evm.rpc("eth_getRawTransactionByHash", [hash])));
  await evm.rpc("anvil_removePoolTransactions", [account]);
  // What their sender has sent again meanwhile is refused here.
  for (const bytes of raw.filter(Boolean)) await evm.rpc("eth_sendRawTransaction", [bytes]).catch(() => {});
}

/**
 * Watches a chain's pool until the process of the chain ends.
 * @param {import("./evm.mjs").Evm} evm
 */
export function watchPool(evm) {
  let before = new Map();
  const look = async () => {
    const stuck = await stuckTransactions(evm);
    const again = [...stuck].filter(([account, [first]]) => before.get(account)?.[0] === first);
    for (const [account, hashes] of again) await sendAgain(evm, account, hashes);
    before = stuck;
  };
  const next = () => {
    const timer = setTimeout(async () => {
      await look().catch(() => {});
      if (evm.child?.exitCode === null && evm.child.signalCode === null) next();
    }, PAUSE_MS);
    timer.unref();
  };
  next();
}
