package cli

import (
	"net"
	"path/filepath"
	"testing"
)

func TestAServiceManagerIsToldThatTheProcessServes(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@isthmus-notify-test"} { // a file, and abstract
		manager, err := net.ListenPacket("unixgram", name)
		if err != nil {
			t.Fatal(err)
		}
		defer manager.Close()
		t.Setenv("NOTIFY_SOCKET", name)
		if err := notifyServing(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, _, err := manager.ReadFrom(b)
		if err != nil || string(b[:n]) != "READY=1" {
			t.Errorf("%s was told %q, %v", name, b[:n], err)
		}
	}
}

func TestWithoutAServiceManagerNobodyIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notifyServing(); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if notifyServing() == nil {
		t.Error("nobody listened, and no error")
	}
}
