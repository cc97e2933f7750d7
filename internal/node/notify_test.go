package node

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestNotifier(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if n, err := NewNotifier(); n != nil || err != nil {
		t.Fatalf("without a service manager: %v, %v", n, err)
	}
	(*Notifier)(nil).Ready()
	for _, wrong := range []string{"relative", filepath.Join(t.TempDir(), "nobody")} {
		t.Setenv("NOTIFY_SOCKET", wrong)
		if n, err := NewNotifier(); err == nil {
			t.Errorf("%s: %v", wrong, n)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	manager.SetDeadline(time.Now().Add(10 * time.Second))
	t.Setenv("NOTIFY_SOCKET", path)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		say  func()
		want string
	}{
		{n.Ready, "READY=1"},
		{func() { n.State(State{Serving: true, Role: "backup", Epoch: 3}) }, "STATUS=serving as backup, epoch 3"},
		{func() { n.State(State{Waiting: "member 1 (x)"}) }, "STATUS=waiting for member 1 (x)"},
		{func() { n.State(State{Failed: "it is broken"}) }, "STATUS=not serving: it is broken"},
		{n.Stopping, "STOPPING=1"},
	} {
		c.say()
		var b [200]byte
		k, err := manager.Read(b[:])
		if err != nil || string(b[:k]) != c.want {
			t.Errorf("%q, %v, want %q", b[:k], err, c.want)
		}
	}
}
