// One copy of the package in a process, whoever imports it and how: tokens and breakers are state.
export * from "./dist/index.js";
