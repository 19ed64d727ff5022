(* The models of the theorems as an OCaml program: numbers.ml compares their outputs with given ones. *)
Require Import Extraction ExtrOcamlBasic FlowAR DiT.
Extraction Language OCaml.
Extraction "build/model.ml" flowar dit.
