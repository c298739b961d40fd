package kube

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition returns a condition of an object of that generation; it has its time by
// [SetConditions].
func Condition(kind string, holds bool, reason, message string, generation int64) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: generation}
	if holds {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// SetConditions returns the conditions was with each of now put in its place, and
// whether that changes anything. One whose status stays keeps its time.
func SetConditions(was []metav1.Condition, now ...metav1.Condition) (next []metav1.Condition, changed bool) {
	for _, c := range was {
		next = append(next, *c.DeepCopy())
	}
	for _, c := range now {
		changed = meta.SetStatusCondition(&next, c) || changed
	}
	return next, changed
}
