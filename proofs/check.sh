#!/usr/bin/env bash
# Compile every proof and print what the theorems rest on; `make proofs` calls it. Installs Coq on Debian and Ubuntu.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v coqc >/dev/null || ! command -v ocamlopt >/dev/null; then
  echo "proofs: Coq or OCaml is not installed; trying apt-get (Debian packages coq and ocaml-nox)"
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  log=$(mktemp)
  if ! { $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends coq ocaml-nox; } >"$log" 2>&1; then
    tail -5 "$log"
    echo "##############################################################################"
    echo "proofs: NOT CHECKED. Coq could not be installed; install it (apt-get install coq ocaml-nox) and run make proofs."
    echo "##############################################################################"
    exit 3
  fi
fi

read -r -a files <order
if grep -nE '\b(Axiom|Parameter|Conjecture|Admitted|admit)\b' "${files[@]/%/.v}"; then
  echo "proofs: FAILED. A file assumes something (above)."
  exit 1
fi
for file in "${files[@]}"; do
  if [ "$file" = Assumptions ] || [ ! "$file.vo" -nt "$file.v" ] || [ -n "${stale:-}" ]; then
    stale=1
    echo "coqc $file.v"
    coqc "$file.v" | tee "$file.out"
  fi
done
asked=$(grep -c '^Print Assumptions' Assumptions.v)
closed=$(grep -c '^Closed under the global context' Assumptions.out || true)
if [ "$asked" != "$closed" ]; then
  echo "proofs: FAILED. $closed of $asked theorems rest on nothing."
  exit 1
fi
echo "proofs: $asked theorems, none rests on an assumption."

# extracted NAME PROOF EXTRACTION MODULE DRIVER: build/NAME of what Coq extracts, anew where a proof or the driver is newer
extracted() {
  if [ ! "build/$1" -nt "$2.vo" ] || [ ! "build/$1" -nt "$3.v" ] || [ ! "build/$1" -nt "$5" ]; then
    coqc "$3.v" >/dev/null 2>&1
    cp "$5" build
    (cd build && ocamlopt -w -a "$4.mli" "$4.ml" "$5" -o "$1")
  fi
}

# the checker whose soundness is one of them, extracted; it must prove the honest examples and refuse the forged ones
mkdir -p build
extracted checker Checker Extract checked driver.ml
for file in examples/honest-*.txt; do
  verdict=$(build/checker "$file") || { echo "proofs: FAILED. An honest proof was refused."; exit 1; }
  echo "checker $file: $verdict"
done
for file in examples/forged-*.txt; do
  status=0
  verdict=$(build/checker "$file") || status=$?
  echo "checker $file: $(tail -n 1 <<<"$verdict")"
  [ "$status" = 1 ] || { echo "proofs: FAILED. A forged proof was not refused."; exit 1; }
done
echo "proofs: the extracted checker is proofs/build/checker."

# the theorems' models on numbers that the package computed; DiT is compiled after FlowAR
extracted numbers DiT Numbers model numbers.ml
for file in examples/numbers-*.txt; do
  verdict=$(build/numbers "$file") || { echo "proofs: FAILED. $file: $verdict"; exit 1; }
  echo "numbers $file: $verdict"
done
