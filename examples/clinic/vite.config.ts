import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const server = "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [react()],
  // The client is a workspace dependency with a React of its own beside it: two Reacts would share no context.
  resolve: { dedupe: ["react", "react-dom"] },
  build: { target: "es2023" },
  server: { proxy: { "/live": { target: server, ws: true }, "/fhir": server } },
});
