// LiteSVM's answers in the words of a node's JSON-RPC.
import { getBase58Decoder } from "@solana/kit";

const base58 = getBase58Decoder();

/** The names that LiteSVM numbers, as far as these chains meet them: `TransactionErrorFieldless`. */
const OF_TRANSACTIONS = [
  "AccountInUse",
  "AccountLoadedTwice",
  "AccountNotFound",
  "ProgramAccountNotFound",
  "InsufficientFundsForFee",
  "InvalidAccountForFee",
  "AlreadyProcessed",
  "BlockhashNotFound",
  "CallChainTooDeep",
  "MissingSignatureForFee",
  "InvalidAccountIndex",
  "SignatureFailure",
];
/** The runtime's `InstructionError` without members, in its order: LiteSVM gives the place, a node writes the name. */
const INSTRUCTION_ERRORS = `GenericError InvalidArgument InvalidInstructionData InvalidAccountData AccountDataTooSmall
  InsufficientFunds IncorrectProgramId MissingRequiredSignature AccountAlreadyInitialized UninitializedAccount
  UnbalancedInstruction ModifiedProgramId ExternalAccountLamportSpend ExternalAccountDataModified ReadonlyLamportChange
  ReadonlyDataModified DuplicateAccountIndex ExecutableModified RentEpochModified NotEnoughAccountKeys
  AccountDataSizeChanged AccountNotExecutable AccountBorrowFailed AccountBorrowOutstanding DuplicateAccountOutOfSync
  InvalidError ExecutableDataModified ExecutableLamportChange ExecutableAccountNotRentExempt UnsupportedProgramId
  CallDepth MissingAccount ReentrancyNotAllowed MaxSeedLengthExceeded InvalidSeeds InvalidRealloc
  ComputationalBudgetExceeded PrivilegeEscalation ProgramEnvironmentSetupFailure ProgramFailedToComplete
  ProgramFailedToCompile Immutable IncorrectAuthority AccountNotRentExempt InvalidAccountOwner ArithmeticOverflow
  UnsupportedSysvar IllegalOwner MaxAccountsDataAllocationsExceeded MaxAccountsExceeded
  MaxInstructionTraceLengthExceeded BuiltinProgramsMustConsumeComputeUnits BorshIoError`.split(/\s+/);

/** An error as a node writes it: `{"InstructionError":[0,{"Custom":1}]}`. */
export function errorOf(failed) {
  const error = failed.err();
  if (typeof error === "number") return OF_TRANSACTIONS[error] ?? `TransactionError ${error}`;
  const index = typeof error.index === "function" ? error.index() : error.index;
  const inner = typeof error.err === "function" ? error.err() : undefined;
  if (inner === undefined) return String(error);
  const code = typeof inner === "object" && inner !== null && "code" in inner ? inner.code : undefined;
  if (code !== undefined) return { InstructionError: [index, { Custom: Number(code) }] };
  return { InstructionError: [index, INSTRUCTION_ERRORS[inner] ?? String(inner)] };
}

export function uiAmount({ amount, decimals }) {
  const digits = amount.toString().padStart(decimals + 1, "0");
  const cut = digits.length - decimals;
  const uiAmountString = `${digits.slice(0, cut)}.${digits.slice(cut)}`.replace(/\.?0+$/, "");
  const zero = amount === 0n;
  return {
    amount: amount.toString(),
    decimals,
    uiAmount: zero ? null : Number(uiAmountString),
    uiAmountString: zero ? "0" : uiAmountString,
  };
}

export function tokenBalances(accounts) {
  return accounts.flatMap(({ token }, accountIndex) =>
    token ? [{ accountIndex, mint: token.mint, owner: token.owner, programId: token.program, uiTokenAmount: uiAmount(token) }] : [],
  );
}

export function innerInstructions(meta) {
  return meta.innerInstructions().flatMap((list, index) =>
    list.length
      ? [
          {
            index,
            instructions: list.map((inner) => ({
              programIdIndex: inner.instruction().programIdIndex(),
              accounts: [...inner.instruction().accounts()],
              data: base58.decode(inner.instruction().data()),
              stackHeight: inner.stackHeight(),
            })),
          },
        ]
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
