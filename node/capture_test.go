package node

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestAPodThatEndsIsNotSaidToBeUncaptured(t *testing.T) {
	var events []string
	root := t.TempDir()
	begin := time.Now()
	c := &capturer{
		host: &host{proc: root, cgroups: cgroups{root: root}}, log: slog.New(slog.DiscardHandler), looked: begin.Add(time.Hour),
		event:  func(_ *corev1.Pod, reason, message string) { events = append(events, reason+": "+message) },
		pinned: map[types.UID]bool{}, refused: map[types.UID]bool{},
		pods: map[types.UID]*state{"job": {since: begin, at: place{cgroup: "/kubepods/job", process: 7, network: 1}, captured: true}},
	}
	pods := []*corev1.Pod{{
		ObjectMeta: metav1.ObjectMeta{UID: "job", Labels: map[string]string{sidecarLabel: "true"}},
		Status:     corev1.PodStatus{PodIP: "10.42.0.9"},
	}}
	end := begin.Add(time.Hour)
	for at := end; at.Before(end.Add(lateAfter)); at = at.Add(lookPause) {
		c.step(pods, at)
	}
	if len(events) > 0 {
		t.Errorf("its processes have just ended: %q", events)
	}
	c.step(pods, end.Add(lateAfter+lookPause))
	if len(events) != 1 || !strings.HasPrefix(events[0], "NotCaptured: no process of the pod") {
		t.Errorf("it stays without processes: %q", events)
	}
}
