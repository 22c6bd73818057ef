/* The main module of a function in modules syntax: the prelude first, then the author's module, whose fetch
   handler is called through a frame that puts an error's stack into the log before the runtime answers 500. */
import "atoll:prelude";
import * as author from "MAIN";
export * from "MAIN";

const report = (error) => {
  console.error("Uncaught " + (error?.stack ?? String(error)));
  throw error;
};

const reporting = (handlers) => {
  const fetch = (request, env, ctx) => {
    let response;
    try { response = handlers.fetch(request, env, ctx); } catch (error) { report(error); }
    return typeof response?.then === "function" ? response.then(undefined, report) : response;
  };
  return Object.create(handlers, { fetch: { value: fetch, enumerable: true } });
};

const main = author.default;
export default typeof main === "object" && typeof main?.fetch === "function" ? reporting(main) : main;
