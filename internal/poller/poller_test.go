//go:build linux

package poller_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/poller"
)

func pair(t *testing.T) (int, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func TestReadinessFollowsTheData(t *testing.T) {
	p, err := poller.New(8)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := pair(t)
	if err := p.Add(a, poller.Readable); err != nil {
		t.Fatal(err)
	}
	if ev, err := p.Wait(nil, 0); err != nil || len(ev) != 0 {
		t.Fatalf("nothing was sent, yet Wait says %v, %v", ev, err)
	}
	buf := make([]byte, 16)
	if _, err := poller.Read(a, buf); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("Read of an empty socket: %v, want EAGAIN", err)
	}
	if n, err := poller.Write(b, []byte("whale")); n != 5 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	ev, err := p.Wait(nil, time.Minute)
	if err != nil || len(ev) != 1 || ev[0].FD != a || !ev[0].Readable || ev[0].Writable {
		t.Fatalf("Wait: %v, %v", ev, err)
	}
	if n, err := poller.Read(a, buf); string(buf[:n]) != "whale" || err != nil {
		t.Fatalf("Read: %q, %v", buf[:n], err)
	}
	if err := p.Modify(a, poller.Readable|poller.Writable); err != nil {
		t.Fatal(err)
	}
	if ev, _ := p.Wait(nil, time.Minute); len(ev) != 1 || !ev[0].Writable || ev[0].Readable {
		t.Fatalf("an empty socket buffer is writable only: %v", ev)
	}
	unix.Shutdown(b, unix.SHUT_WR)
	if ev, _ := p.Wait(nil, time.Minute); len(ev) != 1 || !ev[0].Readable {
		t.Fatalf("the end of the stream is readable: %v", ev)
	}
	if n, err := poller.Read(a, buf); n != 0 || err != nil {
		t.Fatalf("end of stream: %d, %v", n, err)
	}
	if err := p.Remove(a); err != nil {
		t.Fatal(err)
	}
	if ev, _ := p.Wait(nil, 0); len(ev) != 0 {
		t.Fatalf("removed, yet %v", ev)
	}
}

func TestWaitAllocatesNothing(t *testing.T) {
	p, _ := poller.New(8)
	defer p.Close()
	a, b := pair(t)
	p.Add(a, poller.Readable)
	poller.Write(b, []byte("x"))
	ev := make([]poller.Event, 0, 8)
	if n := testing.AllocsPerRun(100, func() { ev, _ = p.Wait(ev[:0], 0) }); n != 0 {
		t.Fatalf("%v allocations a Wait", n)
	}
}

func TestEdges(t *testing.T) {
	p, err := poller.New(8)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := pair(t)
	if err := p.Add(a, poller.Readable|poller.Edge); err != nil {
		t.Fatal(err)
	}
	expect := func(when string, want ...poller.Event) {
		t.Helper()
		if got, err := p.Wait(nil, 0); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s: %+v, %v, want %+v", when, got, err, want)
		}
	}
	poller.Write(b, []byte("whale"))
	expect("bytes have come", poller.Event{FD: a, Readable: true})
	expect("nothing was read, and nothing new has come")
	poller.Write(b, []byte("!"))
	expect("more has come", poller.Event{FD: a, Readable: true})
	if err := p.Modify(a, poller.Readable|poller.Edge); err != nil {
		t.Fatal(err)
	}
	expect("after Modify", poller.Event{FD: a, Readable: true})
	unix.Shutdown(b, unix.SHUT_WR)
	expect("the end, behind bytes", poller.Event{FD: a, Readable: true, Ended: true})
	expect("the end was told")
}
