package tcp

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/fabric/internal/handshake"
	"whale/pmem"
)

const patience = 10 * time.Second

// until polls a condition that has to come true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// wired is a connection with memory at both ends.
type wired struct {
	*fabrictest.Pair
	a, b          *Endpoint
	ab, ba        *conn
	from, to      pmem.Memory
	local, remote fabric.Key
}

func wire(t testing.TB, size uint64, o Options) *wired {
	t.Helper()
	p := newPair(t, o)
	w := &wired{Pair: p, a: p.A.(*Endpoint), b: p.B.(*Endpoint), ab: p.AB.(*conn), ba: p.BA.(*conn)}
	w.from, w.to = pmem.HeapOf(size, pmem.FileShared), pmem.HeapOf(size, pmem.FileShared)
	w.local, w.remote = register(t, w.a, w.from, fabric.LocalOnly), register(t, w.b, w.to, allRights)
	return w
}

func (w *wired) write(off, n uint64, flags fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Write, Flags: flags, Local: fabric.Span{Key: w.local, Off: off}, Remote: fabric.Addr{Key: w.remote, Off: off}, Len: n}
}

// one posts an operation and waits for its completion.
func one(t testing.TB, c *conn, op fabric.Op) (done fabric.Completion) {
	t.Helper()
	op.Flags |= fabric.Signaled
	var space [1]fabric.Completion
	until(t, "the operation is posted", func() bool { return c.Post([]fabric.Op{op}) == 1 })
	until(t, "the operation completes", func() bool { return c.Poll(space[:]) == 1 })
	return space[0]
}

// impostor is a peer that has proved the secret and set up a connection, and plays the initiator's socket by hand.
func impostor(t *testing.T, e *Endpoint) (net.Conn, fabric.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	accepted := make(chan fabric.Conn, 1)
	go func() {
		c, err := e.Accept(ctx, func([]byte) ([]byte, error) { return nil, nil })
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	socket := func(blob []byte) (net.Conn, []byte) {
		s, err := net.Dial("tcp", e.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		err = handshake.Dial(s, testSecret)
		if err == nil {
			err = handshake.WriteBlob(s, blob)
		}
		reply, rerr := handshake.ReadBlob(s, 5000)
		if err = errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
		return s, reply
	}
	first, reply := socket([]byte{roleFirst, byte(pmem.FileShared)})
	socket(append([]byte{roleSecond}, reply[1:17]...))
	return first, <-accepted
}

// TestGarbageOnThePort: whatever comes before the proof of the secret costs little and harms nobody.
func TestGarbageOnThePort(t *testing.T) {
	w := wire(t, 4096, Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	var open []net.Conn
	for i := range 300 {
		s, err := net.Dial("tcp", w.b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 0:
			io.WriteString(s, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		case 1:
			s.Write(noise) // the other side closes in the middle
		case 2:
			io.WriteString(s, "whalefb1") // and then nothing for as long as it may
		case 3:
			s.Close()
		}
		open = append(open, s)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("300 strangers cost %d bytes", grown)
	}
	if done := one(t, w.ab, w.write(0, 100, 0)); done.Err != nil {
		t.Errorf("a connection beside the noise: %v", done.Err)
	}
	a, b, _, err := w.Connect(nil, func([]byte) ([]byte, error) { return nil, nil })
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); { // Accept tells of strangers, too
		a, b, _, err = w.Connect(nil, func([]byte) ([]byte, error) { return nil, nil })
	}
	if err != nil {
		t.Fatalf("a new connection beside the noise: %v", err)
	}
	a.Close()
	b.Close()
	for _, s := range open {
		s.Close()
	}
}

// TestGarbageFromAPeer: a peer that holds the secret and sends nonsense loses its connection, and no other is touched.
func TestGarbageFromAPeer(t *testing.T) {
	for name, bytes := range map[string]func() []byte{
		"noise": func() []byte { b := make([]byte, 1<<20); rand.Read(b); return b },
		"a request out of order": func() []byte {
			b := make([]byte, requestSize)
			(&request{kind: fabric.Fence, seq: 1}).encode(b)
			return b
		},
		"a frame longer than any": func() []byte {
			b := make([]byte, requestSize)
			(&request{kind: fabric.Send, n: 1<<32 - 1}).encode(b)
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := wire(t, 4096, Options{})
			s, c := impostor(t, w.b)
			m := pmem.Heap(64)
			c.Post([]fabric.Op{{Kind: fabric.Recv, ID: 4, Local: fabric.Span{Key: register(t, w.b, m, fabric.LocalOnly)}, Len: 64}})
			s.Write(bytes())
			var done [1]fabric.Completion
			until(t, "the connection is lost", func() bool { return c.Poll(done[:]) == 1 })
			if done[0].ID != 4 || !errors.Is(done[0].Err, fabric.ErrBroken) || !strings.Contains(done[0].Err.Error(), errFrame.Error()) {
				t.Errorf("the Recv ended with %v", done[0].Err)
			}
			if done := one(t, w.ab, w.write(0, 100, 0)); done.Err != nil {
				t.Errorf("another connection: %v", done.Err)
			}
		})
	}
}

// TestRevokeWhileAFrameIsOnItsWay: a peer that stops in the middle of a payload does not hold up a withdrawal, and the
// rest of its frame does not land.
func TestRevokeWhileAFrameIsOnItsWay(t *testing.T) {
	w := wire(t, 4096, Options{})
	s, _ := impostor(t, w.b)
	frame := make([]byte, requestSize+1000)
	(&request{kind: fabric.Write, n: 1000, a: 1000, key: w.remote}).encode(frame)
	for i := range 1000 {
		frame[requestSize+i] = 7
	}
	s.Write(frame[:requestSize+500])
	if err := w.b.Revoke(w.remote); err != nil {
		t.Fatalf("Revoke: %v, want nil: nobody copies", err)
	}
	s.Write(frame[requestSize+500:])
	var b [replySize]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		t.Fatal(err)
	}
	var p reply
	if err := p.decode(b[:]); err != nil || p.kind != replyFail || codes[p.code] != fabric.ErrAccess {
		t.Fatalf("answered with %+v, %v; want a refusal of access", p, err)
	}
	for i, v := range w.to.Bytes() {
		if v != 0 {
			t.Fatalf("byte %d landed under a revoked key", i)
		}
	}
}

// TestRevokeInTheMiddleOfACopy: while somebody works on the memory, and only so long, Revoke says so.
func TestRevokeInTheMiddleOfACopy(t *testing.T) {
	w := wire(t, 4096, Options{})
	r, err := w.b.remote(w.remote, 0, 8, fabric.RemoteWrite)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.b.Revoke(w.remote); !errors.Is(err, fabric.ErrInFlight) {
			t.Fatalf("Revoke: %v, want ErrInFlight", err)
		}
	}
	if _, err := w.b.remote(w.remote, 0, 8, fabric.RemoteWrite); !errors.Is(err, fabric.ErrAccess) {
		t.Fatalf("a new use of a key that is being revoked: %v", err)
	}
	r.release()
	if err := w.b.Revoke(w.remote); err != nil {
		t.Fatal(err)
	}
}

// TestCloseOfASilentPeer: a peer that does not confirm the end holds Close up for a bounded time, and the error says so.
func TestCloseOfASilentPeer(t *testing.T) {
	w := wire(t, 4096, Options{})
	_, c := impostor(t, w.b)
	began := time.Now()
	if err := c.Close(); !errors.Is(err, fabric.ErrInFlight) {
		t.Errorf("Close: %v, want ErrInFlight", err)
	}
	if took := time.Since(began); took > lastWords+patience/2 {
		t.Errorf("Close took %v", took)
	}
	if err := w.ab.Close(); err != nil {
		t.Errorf("Close of a sound connection: %v", err)
	}
}

// TestSecrets: who holds another secret is told so, on both sides, and a replay of what was heard is worth nothing: see
// package handshake.
func TestSecrets(t *testing.T) {
	a, b := open(t, Options{}), open(t, Options{Secret: []byte("another secret, of enough bytes")})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	accepted := make(chan error, 1)
	go func() {
		_, err := b.Accept(ctx, nil)
		accepted <- err
	}()
	for {
		if _, _, err := a.Dial(ctx, b.Addr(), nil); !errors.Is(err, fabric.ErrAuth) {
			t.Fatalf("Dial: %v, want ErrAuth", err)
		}
		select {
		case err := <-accepted:
			if !errors.Is(err, fabric.ErrAuth) {
				t.Errorf("Accept: %v, want ErrAuth", err)
			}
			return
		default: // nobody was waiting in Accept yet
		}
	}
}
