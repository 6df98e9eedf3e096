"""What a figure was measured on: without it, a figure says nothing."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.contenders import RIVALS

PACKAGES = ("bonfire", "asyncpg", "msgspec", "psycopg", "starlette", "uvicorn", "uvloop", "websockets")


def describe_machine(postgres: str) -> dict[str, object]:
    """The machine and the versions; `postgres` is the server's own word."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "postgres": postgres,
        "packages": {name: version(name) for name in PACKAGES},
        "node": _node(),
    }


def _node() -> dict[str, str]:
    """Node's version, and those of what the rivals use, as their lock file names them."""
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    packages = json.loads((RIVALS / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {"node": said, **{name: packages[f"node_modules/{name}"]["version"] for name in ("ws", "pg")}}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
