import { createClient } from "bonfire";
import { BonfireProvider } from "bonfire/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { WritesProvider } from "./freshness/writes.tsx";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");

createRoot(root).render(
  <StrictMode>
    <BonfireProvider client={createClient()}>
      <WritesProvider>
        <App />
      </WritesProvider>
    </BonfireProvider>
  </StrictMode>,
);
