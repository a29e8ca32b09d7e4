// A reporter for node's test runner: a line of JSON for each failed test.
export default async function* failures(events) {
  for await (const { type, data } of events) {
    if (type !== "test:fail" || data.details?.error?.failureType === "subtestsFailed") continue;
    yield `${JSON.stringify({ name: data.name, line: data.line })}\n`;
  }
}
