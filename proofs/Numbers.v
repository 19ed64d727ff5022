(* The model of the theorem as an OCaml program: numbers.ml compares its outputs with given ones. *)
Require Import Extraction ExtrOcamlBasic FlowAR.
Extraction Language OCaml.
Extraction "build/model.ml" flowar.
