#!/usr/bin/env bash
# Compile every proof and print what the theorems rest on; `make proofs` calls it. Installs Coq on Debian and Ubuntu.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v coqc >/dev/null; then
  echo "proofs: Coq is not installed; trying apt-get (Debian package coq)"
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  if ! { $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends coq ocaml-nox; } >/tmp/proofs-apt.log 2>&1; then
    tail -5 /tmp/proofs-apt.log
    echo "proofs: NOT CHECKED. Coq could not be installed; install it (apt-get install coq ocaml-nox) and run make proofs."
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
