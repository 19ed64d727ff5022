(* Circuits side by side on one input, and waiting. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Threshold.
Open Scope Z_scope.

(* every gate reads the layer before, which has n nodes *)
Definition reads (n : nat) (l : layer) := Forall (fun g : gate => (length (fst g) <= n)%nat) l.
Fixpoint wf (n : nat) (c : circuit) : Prop := match c with [] => True | l :: c' => reads n l /\ wf (length l) c' end.

Lemma reads_app n l k : reads n l -> reads n k -> reads n (l ++ k).
Proof. intros; apply Forall_app; auto. Qed.
Lemma reads_weaken n m l : (n <= m)%nat -> reads n l -> reads m l.
Proof. intros H; apply Forall_impl; intros; lia. Qed.

Definition shift (m : nat) (l : layer) : layer := map (fun g : gate => (repeat 0 m ++ fst g, snd g)) l.
Lemma run_left l x y : reads (length x) l -> run_layer l (x ++ y) = run_layer l x.
Proof.
  intros H. unfold run_layer. apply map_ext_in. intros g Hg. unfold fires.
  rewrite dot_short; auto. unfold reads in H. rewrite Forall_forall in H. auto.
Qed.
Lemma run_right l x y : run_layer (shift (length x) l) (x ++ y) = run_layer l y.
Proof. unfold run_layer, shift. rewrite map_map. apply map_ext. intro g. unfold fires. cbn [fst snd]. rewrite dot_skip. reflexivity. Qed.
Lemma run_layer_app l k x : run_layer (l ++ k) x = run_layer l x ++ run_layer k x.
Proof. apply map_app. Qed.
Lemma within_shift m n l : 0 <= m -> Forall (gate_within m) l -> Forall (gate_within m) (shift n l).
Proof.
  intros H A. unfold shift. rewrite Forall_map. eapply Forall_impl; [|exact A]. intros g [B C]. split; cbn [fst snd]; auto.
  apply Forall_app. split; auto. apply Forall_forall. intros w W. apply repeat_spec in W. subst. simpl. lia.
Qed.
Lemma reads_shift m n l : reads n l -> reads (m + n) (shift m l).
Proof.
  intros H. unfold reads, shift. rewrite Forall_map. eapply Forall_impl; [|exact H].
  simpl; intros g L. rewrite app_length, repeat_length. lia.
Qed.

(* from the second layer on: c reads the first m bits, d the bits behind them *)
Fixpoint beside (m : nat) (c d : circuit) : circuit :=
  match c, d with l :: c', k :: d' => (l ++ shift m k) :: beside (length l) c' d' | _, _ => [] end.
Lemma run_beside c d x y : length c = length d -> wf (length x) c -> run (beside (length x) c d) (x ++ y) = run c x ++ run d y.
Proof.
  revert d x y. induction c; destruct d; simpl; intros x y H W; try discriminate; auto.
  destruct W as [R W]. injection H as H. rewrite run_layer_app, run_left, run_right by assumption.
  rewrite <- (run_layer_length a x). apply IHc; auto. rewrite run_layer_length. assumption.
Qed.

(* both read the same input *)
Definition par (c d : circuit) : circuit :=
  match c, d with l :: c', k :: d' => (l ++ k) :: beside (length l) c' d' | _, _ => [] end.
Theorem run_par c d x : length c = length d -> c <> [] -> wf (length x) c -> run (par c d) x = run c x ++ run d x.
Proof.
  intros H N W. destruct c as [|l c]; [congruence|]. destruct d as [|k d]; [discriminate|]. simpl in *.
  destruct W as [R W]. injection H as H. rewrite run_layer_app.
  rewrite <- (run_layer_length l x). apply run_beside; auto. rewrite run_layer_length. assumption.
Qed.
Lemma beside_length c d m : length c = length d -> length (beside m c d) = length c.
Proof. revert d m. induction c; destruct d; simpl; intros; try discriminate; try reflexivity. f_equal. apply IHc. lia. Qed.
Theorem par_depth c d : length c = length d -> length (par c d) = length c.
Proof. destruct c, d; simpl; intros; try discriminate; try reflexivity. rewrite beside_length; lia. Qed.
Lemma beside_size c d m : length c = length d -> size (beside m c d) = (size c + size d)%nat.
Proof.
  revert d m. induction c; destruct d; simpl; intros; auto; try discriminate.
  rewrite app_length. unfold shift. rewrite map_length, IHc by congruence. lia.
Qed.
Theorem par_size c d : length c = length d -> size (par c d) = (size c + size d)%nat.
Proof. destruct c, d; simpl; intros; auto; try discriminate. rewrite app_length, beside_size by congruence. lia. Qed.
Lemma beside_within w c d m : 0 <= w -> weights_within w c -> weights_within w d -> weights_within w (beside m c d).
Proof.
  intros P C. revert d m. induction C; intros d m D; simpl; [constructor|]. destruct D; [constructor|].
  constructor; auto. apply Forall_app. split; auto. apply within_shift; auto. apply IHC; auto.
Qed.
Theorem par_within w c d : 0 <= w -> weights_within w c -> weights_within w d -> weights_within w (par c d).
Proof.
  intros P C D. destruct C; simpl; [constructor|]. destruct D; [constructor|].
  constructor; auto. apply Forall_app; auto. apply beside_within; auto.
Qed.
Lemma beside_wf c d m n : wf m c -> wf n d -> wf (m + n) (beside m c d).
Proof.
  revert d m n. induction c; intros [|k d] m n; simpl; auto. intros [A B] [C D]. split.
  - apply reads_app. eapply reads_weaken; [|exact A]; lia. apply reads_shift; auto.
  - rewrite app_length. unfold shift. rewrite map_length. auto.
Qed.
Theorem par_wf c d n : wf n c -> wf n d -> wf n (par c d).
Proof.
  destruct c, d; simpl; auto. intros [A B] [C D]. split. apply reads_app; auto.
  rewrite app_length. apply beside_wf; auto.
Qed.

(* n identity gates on the nodes numbered by ks *)
Definition unit (k : nat) : list Z := repeat 0 k ++ [1].
Definition pick (ks : list nat) : layer := map (fun k => (unit k, 1)) ks.
Definition wait (n : nat) : layer := pick (seq 0 n).
Lemma dot_unit k x : dot (unit k) x = b2z (nth k x false).
Proof.
  unfold unit. revert x; induction k; destruct x; cbn [repeat app dot nth]; auto.
  - lia.
  - rewrite IHk. lia.
Qed.
Lemma run_pick ks x : run_layer (pick ks) x = map (fun k => nth k x false) ks.
Proof.
  unfold run_layer, pick. rewrite map_map. apply map_ext. intro k. unfold fires. cbn [fst snd]. rewrite dot_unit.
  destruct (nth k x false); reflexivity.
Qed.
Lemma nth_seq_all {A} (x : list A) d : map (fun k => nth k x d) (seq 0 (length x)) = x.
Proof.
  induction x; simpl; auto. f_equal. rewrite <- seq_shift, map_map. exact IHx.
Qed.
Theorem run_wait x : run_layer (wait (length x)) x = x.
Proof. unfold wait. rewrite run_pick. apply nth_seq_all. Qed.
Lemma pick_within ks : Forall (gate_within 1) (pick ks).
Proof.
  unfold pick. rewrite Forall_map. apply Forall_forall. intros k _. split; cbn [fst snd]; [|lia].
  apply Forall_app. split; [|constructor; [lia|constructor]].
  apply Forall_forall. intros w W. apply repeat_spec in W. subst. simpl. lia.
Qed.
Lemma pick_reads ks n : Forall (fun k => (k < n)%nat) ks -> reads n (pick ks).
Proof.
  intros H. unfold reads, pick. rewrite Forall_map. eapply Forall_impl; [|exact H]. simpl. intros k L.
  unfold unit. rewrite app_length, repeat_length. simpl. lia.
Qed.
Lemma pick_length ks : length (pick ks) = length ks.
Proof. apply map_length. Qed.
