package shm

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/fabrictest"
)

// stalledWrite begins a Write of 3 MiB from a to b in another goroutine, and returns when it is inside the first chunk.
func stalledWrite(t *testing.T, w *wired) (resume func() fabric.Completion) {
	t.Helper()
	inside, stalled := make(chan bool), make(chan bool)
	w.ab.midCopy = func() {
		w.ab.midCopy = nil
		inside <- true
		<-stalled
	}
	ended := make(chan fabric.Completion)
	go func() {
		var done [1]fabric.Completion
		w.ab.Post([]fabric.Op{w.write(0, 3<<20, fabric.Signaled)})
		w.ab.Poll(done[:])
		ended <- done[0]
	}()
	<-inside
	return func() fabric.Completion { close(stalled); return <-ended }
}

func TestRevokeWaitsForAWriterInsideACopy(t *testing.T) {
	w := wire(t, 3<<20)
	for i := range w.from {
		w.from[i] = 0xEE
	}
	resume := stalledWrite(t, w)
	for range 3 {
		if err := w.b.Revoke(w.remote); !errors.Is(err, fabric.ErrInFlight) {
			t.Fatalf("Revoke with a writer inside: %v, want ErrInFlight", err)
		}
	}
	if c := resume(); !errors.Is(c.Err, fabric.ErrAccess) {
		t.Fatalf("the writer ended with %v, want ErrAccess", c.Err)
	}
	if err := w.b.Revoke(w.remote); err != nil {
		t.Fatalf("Revoke with nobody inside: %v", err)
	}
	if landed := bytes.LastIndexByte(w.to, 0xEE) + 1; landed > breatheBytes {
		t.Fatalf("%d bytes landed after the key was withdrawn, a period has %d", landed, breatheBytes)
	}
}

// The memory that a Read fills is given back by Revoke, too.
func TestRevokeWaitsForOwnUseAsLocal(t *testing.T) {
	w := wire(t, 3<<20)
	resume := stalledWrite(t, w)
	if err := w.a.Revoke(w.local); !errors.Is(err, fabric.ErrInFlight) {
		t.Fatalf("Revoke of a key that is being read: %v, want ErrInFlight", err)
	}
	if c := resume(); !errors.Is(c.Err, fabric.ErrLocal) {
		t.Fatalf("the writer ended with %v, want ErrLocal", c.Err)
	}
	if err := w.a.Revoke(w.local); err != nil {
		t.Fatal(err)
	}
}

// A connection that is busy all the time does not keep a Revoke waiting: it is the one period that counts.
func TestRevokeDuringConstantWrites(t *testing.T) {
	w := wire(t, 1<<16)
	other := register(t, w.b, mapped(t, 4096), allRights)
	var stop atomic.Bool
	ended := make(chan error)
	go func() {
		ops := []fabric.Op{w.write(0, 64, fabric.Signaled)}
		var done [4]fabric.Completion
		var err error
		for err == nil && !stop.Load() {
			w.ab.Post(ops)
			if n := w.ab.Poll(done[:]); n > 0 {
				err = done[0].Err
			}
		}
		ended <- err
	}()
	until(t, "the other key is revoked", func() bool { return w.b.Revoke(other) == nil })
	stop.Store(true)
	if err := <-ended; err != nil {
		t.Fatalf("a write under another key: %v", err)
	}
}

// TestNothingLandsAfterRevoke races short writes with revocations: once Revoke returned nil, the memory is the owner's.
func TestNothingLandsAfterRevoke(t *testing.T) {
	p := newPair(t)
	a, b := p.A.(*Endpoint), p.B.(*Endpoint)
	from, to := mapped(t, 4096), mapped(t, 4096)
	local := register(t, a, from, fabric.LocalOnly)
	rounds := 300
	if testing.Short() || raceEnabled {
		rounds = 50
	}
	inFlight := 0
	for round := range rounds {
		key := register(t, b, to, fabric.RemoteWrite)
		conn, other, _, err := p.Connect(nil, yes)
		if err != nil {
			t.Fatal(err)
		}
		var begun atomic.Bool
		ended := make(chan error)
		go func() {
			op := []fabric.Op{{Kind: fabric.Write, Flags: fabric.Signaled, Len: 4096, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: key}}}
			var done [1]fabric.Completion
			for done[0].Err == nil {
				from.Bytes()[0]++
				conn.Post(op)
				conn.Poll(done[:])
				begun.Store(true)
			}
			ended <- done[0].Err
		}()
		until(t, "the writer has begun", begun.Load)
		for b.Revoke(key) != nil {
			inFlight++
		}
		for i := range to.Bytes() {
			to.Bytes()[i] = byte(round)
		}
		if err := <-ended; !errors.Is(err, fabric.ErrAccess) {
			t.Fatalf("the writer ended with %v, want ErrAccess", err)
		}
		for i, v := range to.Bytes() {
			if v != byte(round) {
				t.Fatalf("round %d: byte %d was written after Revoke had returned nil", round, i)
			}
		}
		conn.Close()
		other.Close()
	}
	t.Logf("%d calls of Revoke found a write in flight", inFlight)
}

// stoppedWriter is a process that was stopped inside a Write into b's memory.
func stoppedWriter(t *testing.T, b *Endpoint, key fabric.Key) (*child, fabric.Conn) {
	t.Helper()
	w := start(t, "writer", t.TempDir(), b.Addr(), strconv.FormatUint(uint64(key), 10))
	c, err := b.Accept(t.Context(), yes)
	if err != nil {
		t.Fatal(err)
	}
	w.hear("inside")
	w.signal(syscall.SIGSTOP)
	return w, c
}

func TestRevokeWaitsForAStoppedProcess(t *testing.T) {
	b := open(t, t.TempDir())
	key := register(t, b, mapped(t, 3<<20), allRights)
	w, _ := stoppedWriter(t, b, key)
	if err := b.Revoke(key); !errors.Is(err, fabric.ErrInFlight) {
		t.Fatalf("Revoke with a stopped process inside: %v, want ErrInFlight", err)
	}
	w.say("go on")
	w.signal(syscall.SIGCONT)
	if got := w.hear("ended"); !strings.Contains(got, fabric.ErrAccess.Error()) {
		t.Fatalf("the writer ended with %q, want ErrAccess", got)
	}
	if err := b.Revoke(key); err != nil {
		t.Fatalf("Revoke with nobody inside: %v", err)
	}
}

func TestRevokeDoesNotWaitForTheDead(t *testing.T) {
	b := open(t, t.TempDir())
	key := register(t, b, mapped(t, 3<<20), allRights)
	w, _ := stoppedWriter(t, b, key)
	if err := b.Revoke(key); !errors.Is(err, fabric.ErrInFlight) {
		t.Fatalf("Revoke with a stopped process inside: %v, want ErrInFlight", err)
	}
	w.cmd.Process.Kill()
	until(t, "the key of the dead writer is revoked", func() bool { return b.Revoke(key) == nil })
	w.kill()
	// Its line is used again, and what it left there does no harm.
	again := start(t, "writer", t.TempDir(), b.Addr(), strconv.FormatUint(uint64(register(t, b, mapped(t, 3<<20), allRights)), 10))
	c, err := b.Accept(t.Context(), yes)
	if err != nil {
		t.Fatal(err)
	}
	again.hear("inside")
	again.say("go on")
	if got := again.hear("ended"); got != "<nil>" {
		t.Fatalf("the next writer ended with %q", got)
	}
	c.Close()
}

// A connection whose peer is stopped inside cannot be closed for good, and its line goes to nobody else.
func TestAConnectionWithAStoppedPeerInside(t *testing.T) {
	b, err := Open(t.TempDir(), Options{Secret: testSecret, RevokeLimit: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	w, c := stoppedWriter(t, b, register(t, b, mapped(t, 3<<20), allRights))
	if err := c.Close(); !errors.Is(err, fabric.ErrInFlight) {
		t.Fatalf("Close with a stopped process inside: %v, want ErrInFlight", err)
	}
	a := open(t, t.TempDir())
	_, next, _, err := fabrictest.DialAccept(a, b, nil, yes)
	if err != nil || next.(*conn).index == c.(*conn).index {
		t.Fatalf("%v; the next connection has line %d, in which somebody is", err, next.(*conn).index)
	}
	w.kill()
	_, last, _, err := fabrictest.DialAccept(a, b, nil, yes)
	if err != nil || last.(*conn).index != c.(*conn).index {
		t.Fatalf("%v; the line of the dead is not used again, but line %d", err, last.(*conn).index)
	}
}

func TestCloseNamesAStoppedProcess(t *testing.T) {
	b, err := Open(t.TempDir(), Options{Secret: testSecret, RevokeLimit: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	key := register(t, b, mapped(t, 3<<20), allRights)
	w, _ := stoppedWriter(t, b, key)
	want := "process " + strconv.Itoa(w.cmd.Process.Pid)
	if err := b.Close(); !errors.Is(err, fabric.ErrInFlight) || !strings.Contains(err.Error(), want) {
		t.Fatalf("Close with a stopped process inside: %v, want ErrInFlight and %q", err, want)
	}
	// The next incarnation does not begin before the writer has left, either.
	if _, err = Open(b.Addr(), Options{Secret: testSecret, RevokeLimit: 50 * time.Millisecond}); !errors.Is(err, fabric.ErrInFlight) || !strings.Contains(err.Error(), want) {
		t.Fatalf("Open with a stopped process inside: %v, want ErrInFlight and %q", err, want)
	}
	w.say("go on")
	w.signal(syscall.SIGCONT)
	if got := w.hear("ended"); !strings.Contains(got, fabric.ErrBroken.Error()) {
		t.Fatalf("the writer ended with %q, want ErrBroken", got)
	}
	again := open(t, b.Addr())
	if fresh := register(t, again, mapped(t, 64), allRights); fresh <= key {
		t.Fatalf("key %#x after %#x of the earlier incarnation", fresh, key)
	}
}
