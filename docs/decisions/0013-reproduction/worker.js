// Each request waits for a promise that it has made, is woken by the request after it, and then reads its own body.
// `/constructor` makes the promise by `new Promise`, any other path by `Promise.withResolvers`.
const waiting = [];

/** Called for each request, so that V8 optimises it. */
const construct = (executor) => new Promise(executor);

function make(pathname) {
  if (pathname !== "/constructor") return Promise.withResolvers();
  let resolve;
  const promise = construct((own) => {
    resolve = own;
  });
  return { promise, resolve };
}

export default {
  fetch(request) {
    waiting.pop()?.();
    return construct((answer) => {
      const { promise, resolve } = make(new URL(request.url).pathname);
      waiting.push(resolve);
      const timer = setTimeout(resolve, 50);
      promise.then(() => {
        clearTimeout(timer);
        request.text().then(
          (text) => answer(new Response(text)),
          ({ message }) => answer(new Response(message, { status: 500 })),
        );
      });
    });
  },
};
