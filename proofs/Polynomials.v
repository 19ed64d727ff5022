(* Integer polynomials of nodes, which are 0 or 1, in one form for all that are equal. *)
Require Import ZArith List Lia Bool.
Import ListNotations.
Require Import Claims.
Open Scope Z_scope.

(* products of distinct nodes, rising, with coefficients *)
Definition monomial := list node.
Definition polynomial := list (monomial * Z).
Definition all_on (e : node -> bool) (a : monomial) : bool := forallb e a.
Fixpoint amount (e : node -> bool) (p : polynomial) : Z :=
  match p with [] => 0 | (a, c) :: p' => (if all_on e a then c else 0) + amount e p' end.
Definition of_row (r : row) : polynomial := map (fun t : node * Z => ([fst t], snd t)) r.

Fixpoint order (a b : monomial) : comparison :=
  match a, b with
  | [], [] => Eq | [], _ => Lt | _, [] => Gt
  | x :: a', y :: b' => match Pos.compare x y with Eq => order a' b' | c => c end
  end.
Fixpoint merge (p : polynomial) : polynomial -> polynomial :=
  fix go (q : polynomial) : polynomial :=
    match p, q with
    | [], _ => q
    | _, [] => p
    | (a, x) :: p', (b, y) :: q' =>
        match order a b with
        | Lt => (a, x) :: merge p' q
        | Gt => (b, y) :: go q'
        | Eq => if x + y =? 0 then merge p' q' else (a, x + y) :: merge p' q'
        end
    end.
Fixpoint merge_pairs (l : list polynomial) : list polynomial :=
  match l with a :: b :: l' => merge a b :: merge_pairs l' | _ => l end.
Fixpoint merge_all (fuel : nat) (l : list polynomial) : polynomial :=
  match l with
  | [] => [] | [p] => p
  | _ => match fuel with O => concat l | S fuel' => merge_all fuel' (merge_pairs l) end
  end.
Definition canonical (p : polynomial) : polynomial :=
  merge_all 40 (map (fun t : monomial * Z => if snd t =? 0 then [] else [t]) p).

Fixpoint union (a : monomial) : monomial -> monomial :=
  fix go (b : monomial) : monomial :=
    match a, b with
    | [], _ => b
    | _, [] => a
    | x :: a', y :: b' => match Pos.compare x y with Lt => x :: union a' b | Gt => y :: go b' | Eq => x :: union a' b' end
    end.
Definition scale (c : Z) (p : polynomial) : polynomial := map (fun t : monomial * Z => (fst t, c * snd t)) p.
Definition multiply (p q : polynomial) : polynomial :=
  flat_map (fun t : monomial * Z => map (fun s : monomial * Z => (union (fst t) (fst s), snd t * snd s)) q) p.
(* [sum of weight * node >= t] *)
Fixpoint indicator (r : row) (t : Z) : polynomial :=
  match r with
  | [] => if t <=? 0 then [([], 1)] else []
  | (n, w) :: r' => let off := indicator r' t in off ++ multiply [([n], 1)] (indicator r' (t - w) ++ scale (-1) off)
  end.

Lemma amount_app e p q : amount e (p ++ q) = amount e p + amount e q.
Proof. induction p as [|[a c] p I]; cbn [app amount]; auto. rewrite I. lia. Qed.
Lemma amount_scale e c p : amount e (scale c p) = c * amount e p.
Proof. induction p as [|[a x] p I]; cbn [scale map amount fst snd]; [lia|]. fold (scale c p). rewrite I. destruct (all_on e a); lia. Qed.
Lemma amount_row e r : amount e (of_row r) = weighted e r.
Proof. induction r as [|[n w] r I]; cbn [of_row map amount weighted fst snd all_on forallb]; auto. fold (of_row r). rewrite I, andb_true_r. auto. Qed.
Lemma order_eq a : forall b, order a b = Eq -> a = b.
Proof.
  induction a as [|x a I]; intros [|y b] H; cbn in H; try discriminate; auto.
  destruct (Pos.compare_spec x y); try discriminate. subst. f_equal. auto.
Qed.
Lemma amount_merge e p : forall q, amount e (merge p q) = amount e p + amount e q.
Proof.
  induction p as [|[a x] p I]; [destruct q; auto|]. induction q as [|[b y] q J]; [cbn; lia|].
  cbn [merge]. destruct (order a b) eqn:O.
  - apply order_eq in O. subst. destruct (Z.eqb_spec (x + y) 0) as [Z0|]; cbn [amount]; rewrite I; destruct (all_on e b); lia.
  - cbn [amount]. rewrite I. cbn [amount]. lia.
  - cbn [amount]. change ((if all_on e b then y else 0) + amount e (merge ((a, x) :: p) q) = amount e ((a, x) :: p) + ((if all_on e b then y else 0) + amount e q)).
    rewrite J. lia.
Qed.
Definition total_amount e (l : list polynomial) : Z := fold_right (fun p s => amount e p + s) 0 l.
Lemma amount_concat e l : amount e (concat l) = total_amount e l.
Proof. induction l as [|p l I]; cbn [concat total_amount fold_right]; auto. rewrite amount_app, I. auto. Qed.
Lemma amount_pairs e : forall n l, (length l <= n)%nat -> total_amount e (merge_pairs l) = total_amount e l.
Proof.
  induction n as [|n I]; intros [|a [|b l]] L; cbn [length] in L; try lia; auto.
  cbn [merge_pairs total_amount fold_right]. rewrite amount_merge. fold (total_amount e (merge_pairs l)). fold (total_amount e l). rewrite I by lia. lia.
Qed.
Lemma amount_all e fuel : forall l, amount e (merge_all fuel l) = total_amount e l.
Proof.
  induction fuel as [|fuel I]; intros [|a [|b l]]; auto; cbn [merge_all].
  - cbn; lia.
  - apply amount_concat.
  - cbn; lia.
  - rewrite I. apply (amount_pairs e (length (a :: b :: l))). auto.
Qed.
Theorem amount_canonical e p : amount e (canonical p) = amount e p.
Proof.
  unfold canonical. rewrite amount_all. induction p as [|[a c] p I]; cbn [map total_amount fold_right amount snd]; auto.
  fold (total_amount e (map (fun t : monomial * Z => if snd t =? 0 then [] else [t]) p)). rewrite I.
  destruct (Z.eqb_spec c 0); cbn [amount]; destruct (all_on e a); lia.
Qed.
Lemma all_on_union e a : forall b, all_on e (union a b) = all_on e a && all_on e b.
Proof.
  induction a as [|x a I]; [destruct b; auto|]. induction b as [|y b J]; [cbn; rewrite andb_true_r; auto|].
  cbn [union]. destruct (Pos.compare_spec x y) as [->|L|L].
  - cbn [all_on forallb]. fold (all_on e (union a b)). rewrite I. unfold all_on. destruct (e y); auto.
  - cbn [all_on forallb]. fold (all_on e (union a (y :: b))). rewrite I. unfold all_on. cbn [forallb]. destruct (e x); auto.
  - cbn [all_on forallb]. change (e y && all_on e (union (x :: a) b) = all_on e (x :: a) && (e y && all_on e b)). rewrite J.
    destruct (e y); cbn [andb]; auto. rewrite andb_false_r. auto.
Qed.
Lemma amount_multiply e p q : amount e (multiply p q) = amount e p * amount e q.
Proof.
  unfold multiply. induction p as [|[a x] p I]; cbn [flat_map amount fst snd]; auto. rewrite amount_app, I.
  assert (H : amount e (map (fun s : monomial * Z => (union a (fst s), x * snd s)) q) = (if all_on e a then x else 0) * amount e q).
  { clear. induction q as [|[b y] q J]; cbn [map amount fst snd]; [lia|]. rewrite J, all_on_union. destruct (all_on e a), (all_on e b); cbn [andb]; lia. }
  rewrite H. lia.
Qed.
Lemma amount_indicator e r : forall t, amount e (indicator r t) = if t <=? weighted e r then 1 else 0.
Proof.
  induction r as [|[n w] r I]; intros t; cbn [indicator weighted].
  - destruct (t <=? 0); auto.
  - rewrite amount_app, amount_multiply, amount_app, amount_scale, !I. cbn [amount all_on forallb]. rewrite andb_true_r.
    destruct (e n).
    + replace (t - w <=? weighted e r) with (t <=? w + weighted e r); [|destruct (Z.leb_spec t (w + weighted e r)), (Z.leb_spec (t - w) (weighted e r)); auto; lia].
      destruct (t <=? w + weighted e r), (t <=? weighted e r); auto.
    + cbn [Z.add]. destruct (t <=? weighted e r); lia.
Qed.
Definition polynomial_dec (p q : polynomial) : {p = q} + {p <> q}.
Proof. repeat decide equality. Defined.
Lemma same_polynomial e p q : canonical p = canonical q -> amount e p = amount e q.
Proof. intros H. rewrite <- (amount_canonical e p), H. apply amount_canonical. Qed.
(* all coefficients are divisible *)
Definition vanishes (m : Z) (p : polynomial) : bool := forallb (fun t : monomial * Z => snd t mod m =? 0) (canonical p).
Lemma vanishes_sound e m p : 0 < m -> vanishes m p = true -> exists k, amount e p = m * k.
Proof.
  intros M. unfold vanishes. rewrite <- amount_canonical. induction (canonical p) as [|[a c] q I]; cbn [forallb amount snd]; intros H; [exists 0; lia|].
  apply andb_prop in H as [H1 H2]. apply Z.eqb_eq in H1. destruct (I H2) as [k ->]. pose proof (Z.div_mod c m). 
  destruct (all_on e a); [exists (c / m + k)|exists k]; lia.
Qed.
