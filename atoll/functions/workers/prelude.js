/* Runs before a function's own code, in its own realm. Makes of fetch's {backend, timeout}, which the runtime
   ignores, the two header fields that the edge consumes; and puts where an error came from into the log.
   Only block comments and closed statements: for service workers this text becomes one line. */
(() => {
  "use strict";
  const nativeFetch = globalThis.fetch;
  const nativeAdd = globalThis.addEventListener;

  /* What a client or another function sent under our prefix never reaches the edge as ours. */
  const withoutOurs = (headers) => {
    for (const name of [...headers.keys()]) {
      if (name.startsWith("atoll-")) { headers.delete(name); }
    }
  };

  const milliseconds = (timeout) => {
    const value = Number(timeout);
    if (!(value > 0)) { throw new TypeError("fetch: timeout is a number of milliseconds above 0"); }
    return String(Math.max(1, Math.round(value)));
  };

  globalThis.fetch = function fetch(input, init) {
    let request;
    try {
      request = new Request(input, init);
      withoutOurs(request.headers);
      if (init?.backend != null) { request.headers.set("Atoll-Backend", String(init.backend)); }
      if (init?.timeout != null) { request.headers.set("Atoll-Timeout-Ms", milliseconds(init.timeout)); }
    } catch (error) {
      return Promise.reject(error);
    }
    return nativeFetch(request);
  };

  const report = (error) => {
    console.error("Uncaught " + (error?.stack ?? String(error)));
    throw error;
  };

  const reporting = (event, listener) => {
    const respondWith = event.respondWith;
    event.respondWith = (response) => respondWith.call(event, Promise.resolve(response).catch(report));
    try { return listener(event); } catch (error) { return report(error); }
  };

  globalThis.addEventListener = function addEventListener(type, listener, options) {
    const own = type === "fetch" && typeof listener === "function";
    return nativeAdd(type, own ? (event) => reporting(event, listener) : listener, options);
  };
})();
