/**
 * Bundles the viewer's script and its style sheet: `deno task build FOLDER` writes `viewer.js` and `viewer.css`.
 *
 * The script is one classic script and the style sheet has no `url()`, so that both can stand in a page whose
 * Content-Security-Policy allows nothing but their hashes.
 */

import * as esbuild from "esbuild";

const folder = Deno.args[0];
if (folder === undefined) {
  throw new Error("Name the folder of the built files: deno task build FOLDER.");
}

const here = new URL(".", import.meta.url).pathname;

await esbuild.build({
  absWorkingDir: here,
  entryPoints: { viewer: "main.ts" },
  outdir: folder,
  bundle: true,
  minify: true,
  // The page is written in UTF-8, but a browser that guesses another encoding must not break the script.
  charset: "ascii",
  format: "iife",
  target: ["es2022", "chrome111", "firefox113", "safari16.4"],
  legalComments: "none",
});
await esbuild.build({
  absWorkingDir: here,
  entryPoints: { viewer: "styles/main.css" },
  outdir: folder,
  bundle: true,
  minify: true,
  charset: "ascii",
  target: ["chrome111", "firefox113", "safari16.4"],
  legalComments: "none",
});
await esbuild.stop();

for (const name of ["viewer.js", "viewer.css"]) {
  const text = await Deno.readTextFile(`${folder}/${name}`);
  // Either would end the element that the text is put into.
  if (/<\/(script|style)/i.test(text) || text.includes("<!--")) {
    throw new Error(`${name} has a tag in it that would end its element in the page.`);
  }
}
