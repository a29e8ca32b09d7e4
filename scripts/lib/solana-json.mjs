// LiteSVM's answers in the words of a node's JSON-RPC.
import { getBase58Decoder } from "@solana/kit";

const base58 = getBase58Decoder();

/** The names that LiteSVM numbers, as far as these chains meet them: `TransactionErrorFieldless` and `InstructionErrorFieldless`. */
const OF_TRANSACTIONS = [
  "AccountInUse", "AccountLoadedTwice", "AccountNotFound", "ProgramAccountNotFound", "InsufficientFundsForFee", "InvalidAccountForFee",
  "AlreadyProcessed", "BlockhashNotFound", "CallChainTooDeep", "MissingSignatureForFee", "InvalidAccountIndex", "SignatureFailure",
];
const OF_INSTRUCTIONS = {
  0: "GenericError", 1: "InvalidArgument", 2: "InvalidInstructionData", 3: "InvalidAccountData", 4: "AccountDataTooSmall",
  5: "InsufficientFunds", 6: "IncorrectProgramId", 7: "MissingRequiredSignature", 8: "AccountAlreadyInitialized",
  9: "UninitializedAccount", 36: "ComputationalBudgetExceeded", 39: "ProgramFailedToComplete",
};

/** An error as a node writes it: `{"InstructionError":[0,{"Custom":1}]}`, `"InsufficientFundsForFee"`. */
export function errorOf(failed) {
  const error = failed.err();
  if (typeof error === "number") return OF_TRANSACTIONS[error] ?? `TransactionError ${error}`;
  const index = typeof error.index === "function" ? error.index() : error.index;
  const inner = typeof error.err === "function" ? error.err() : undefined;
  if (inner === undefined) return String(error);
  const code = typeof inner === "object" && inner !== null && "code" in inner ? inner.code : undefined;
  if (code !== undefined) return { InstructionError: [index, { Custom: Number(code) }] };
  return { InstructionError: [index, OF_INSTRUCTIONS[inner] ?? String(inner)] };
}

export function uiAmount({ amount, decimals }) {
  const digits = amount.toString().padStart(decimals + 1, "0");
  const cut = digits.length - decimals;
  const uiAmountString = `${digits.slice(0, cut)}.${digits.slice(cut)}`.replace(/\.?0+$/, "");
  const zero = amount === 0n;
  return { amount: amount.toString(), decimals, uiAmount: zero ? null : Number(uiAmountString), uiAmountString: zero ? "0" : uiAmountString };
}

export function tokenBalances(accounts) {
  return accounts.flatMap(({ token }, accountIndex) =>
    token
      ? [{ accountIndex, mint: token.mint, owner: token.owner, programId: token.program, uiTokenAmount: uiAmount(token) }]
      : [],
  );
}

export function innerInstructions(meta) {
  return meta.innerInstructions().flatMap((list, index) =>
    list.length
      ? [{
          index,
          instructions: list.map((inner) => ({
            programIdIndex: inner.instruction().programIdIndex(),
            accounts: [...inner.instruction().accounts()],
            data: base58.decode(inner.instruction().data()),
            stackHeight: inner.stackHeight(),
          })),
        }]
      : [],
  );
}

function instructionsOf(message) {
  if (message.version === 1) {
    return message.instructionHeaders.map((header, at) => ({
      programIdIndex: header.programAccountIndex,
      accounts: [...(message.instructionPayloads[at].instructionAccountIndices ?? [])],
      data: base58.decode(message.instructionPayloads[at].instructionData ?? new Uint8Array()),
      stackHeight: 1,
    }));
  }
  return message.instructions.map((one) => ({
    programIdIndex: one.programAddressIndex,
    accounts: [...(one.accountIndices ?? [])],
    data: base58.decode(one.data ?? new Uint8Array()),
    stackHeight: 1,
  }));
}

export function transactionJson({ slot, blockTime, meta, message, signatures, version }) {
  const { header } = message;
  return {
    slot,
    blockTime,
    version,
    meta,
    transaction: {
      signatures,
      message: {
        accountKeys: message.staticAccounts,
        header: {
          numRequiredSignatures: header.numSignerAccounts,
          numReadonlySignedAccounts: header.numReadonlySignerAccounts,
          numReadonlyUnsignedAccounts: header.numReadonlyNonSignerAccounts,
        },
        recentBlockhash: message.lifetimeToken,
        instructions: instructionsOf(message),
        ...(version === 0 ? { addressTableLookups: [] } : {}),
      },
    },
  };
}
