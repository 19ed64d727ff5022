(* The proof of the theorem for SiT and ARFlow: the program of DiT_proof.v as a circuit. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Threshold Bits Cells Tables Arithmetic Layers Statement Main DiT More_layers DiT_proof Statement_DiT.
Open Scope Z_scope.

Lemma stages_of_kinds bs : blocks_stages bs = (22 * (length bs - length (filter is_hybrid bs)) + 46 * length (filter is_hybrid bs))%nat
  /\ (length (filter is_hybrid bs) <= length bs)%nat.
Proof.
  unfold blocks_stages, block_stages, is_hybrid. induction bs as [|bl bs [E L]]; [auto|]. cbn [map fold_right filter length].
  destruct (mixer_of bl); cbn [mixer_stages length]; split; lia.
Qed.

Theorem dit_main : dit_in_constant_depth.
Proof.
  intros A c. set (g := (c + dit_halves A + 2)%nat).
  set (d := (1 + dit_steps A * (dit_halves A * (12 + 22 * softmax_blocks A + 46 * hybrid_blocks A) + 1))%nat).
  destruct (circuits_of_programs d g) as [x H]. exists x.
  intros n a m two (A1 & A2 & A3 & A4) Sz (p1 & pf & pn).
  destruct (beyond n c (dit_halves A) two) as [nc kh]. change (c + dit_halves A + 2)%nat with g in nc, kh.
  assert (strict : (S (n ^ c) <= n ^ g)%nat).
  { assert (n ^ S c <= n ^ g)%nat by (apply Nat.pow_le_mono_r; unfold g; lia). assert (n ^ c <> 0)%nat by (apply Nat.pow_nonzero; lia).
    rewrite Nat.pow_succ_r' in *. nia. }
  set (k := (n ^ g)%nat) in *. specialize (H n a (inputs_ m)). cbv zeta in H. change (n ^ g)%nat with k in H. clearbody k.
  assert (small : (tokens m <= k /\ in_token m <= k /\ heads m <= k /\ head_size m <= k /\ S (width m) <= k /\ hidden m <= k /\
    S (length (halves m)) <= k)%nat) by (unfold dit_sizes_within in Sz; lia).
  assert (as_tokens : (pixels m * channels m = tokens m * in_token m)%nat) by (unfold pixels, tokens, in_token; lia).
  assert (few : (pixels m * channels m <= k * k)%nat) by (rewrite as_tokens; apply Nat.mul_le_mono; lia).
  pose proof (can_begin a (inputs_ m) k (terms_of k) (largest_of a k) (pixels m) (channels m) p1 eq_refl) as start.
  destruct (can_dit (list Z) (given a (inputs_ m)) (fun u => u) (inputs_ m) k (terms_of k) (largest_of a k) (fun u U => proj1 U) a p1 pf ltac:(lia) ltac:(apply Z.le_refl) ltac:(apply Nat.le_refl) m small
    (fun u => nth 0 u 0) (P a) 0%nat _ (fun u => (fun i j => nth (S (i * channels m + j)) u 0) : tab) start (or_introl eq_refl) (or_intror (or_introl eq_refl)))
    as (Vs & y & C & Y & E).
  destruct (stages_of_kinds (blocks m)) as [kinds less].
  assert (stages : (dit_stages m + 0 = d)%nat).
  { unfold dit_stages, step_stages, velocity_stages, d. rewrite kinds, A1, A2, A3, A4. replace (softmax_blocks A + hybrid_blocks A - hybrid_blocks A)%nat with (softmax_blocks A) by lia. lia. }
  rewrite stages in C.
  destruct (H (pixels m) (channels m) Vs y two ltac:(lia) p1 ltac:(lia)) with (3 := C) (4 := Y) as (Circ & D1 & D2 & D3 & D4).
  { unfold inputs_. apply le_n_S. exact few. } { exact few. }
  exists Circ. split; [rewrite D1; unfold dit_depth, d; lia|]. split; [exact D2|]. split; [exact D3|].
  intros u U. rewrite (D4 u U). f_equal. unfold image, dit. rewrite E. reflexivity.
Qed.
