(* What the theorems rest on. `make proofs` fails unless every answer is "Closed under the global context". *)
Require Import Threshold Cells Tables Main Checker.
Print Assumptions bank_reads.
Print Assumptions compile_correct.
Print Assumptions realise.
Print Assumptions flowar_main.
Print Assumptions check_sound.
