#!/usr/bin/env bash
# A wheel in an empty environment, with nothing else on disk: `bash tools/smoke_wheel.sh dist/relid_sumo-*.whl`.
# PYTHON names the interpreter (3.11 or newer); DEMO=1 runs the whole demo too (two minutes).
set -euo pipefail
wheel="$(realpath "$1")"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PYTHONPATH RELID_SUMO_OSM_PATH
export RELID_SUMO_CACHE="$folder/cache"

"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet torch==2.13.0
venv/bin/pip install --quiet "$wheel"
venv/bin/relid-sumo doctor
venv/bin/relid-sumo train town --algo ippo --episodes 4 --evaluate 1 --out run
venv/bin/relid-sumo evaluate run --seeds 1
venv/bin/relid-sumo report run --out report.html

# Without its extra, a command says what to install.
message="$(venv/bin/relid-sumo sed run town --llm openai --set sed.llm.model=m \
    --set sed.llm.base_url=http://127.0.0.1:1/v1 --out s 2>&1 || true)"
grep -qF 'pip install "relid_sumo[llm]"' <<<"$(tr -d '\n' <<<"$message")" || { echo "no hint: $message" >&2; exit 1; }

if [[ -n "${DEMO:-}" ]]; then
    venv/bin/relid-sumo demo
fi
