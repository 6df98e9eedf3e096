import { defineConfig } from "vitest/config";

export default defineConfig({
  build: {
    target: "es2022",
    // Whoever builds an app minifies it; what is printed here after gzip is what it costs them at most.
    minify: false,
    sourcemap: true,
    lib: { entry: { index: "src/index.ts", api: "src/api.gen.ts", react: "src/react/index.ts" }, formats: ["es"] },
    rolldownOptions: {
      external: [/^react/],
      // Editors show the comments of the types, which keep theirs.
      output: { comments: { jsdoc: false } },
    },
  },
  test: {
    include: ["tests/**/*.test.{ts,tsx}"],
    restoreMocks: true,
  },
});
