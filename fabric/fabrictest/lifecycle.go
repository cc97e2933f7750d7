package fabrictest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"whale/fabric"
)

func init() {
	register("hello and answer", checkHello)
	register("a refused connection", checkRefusal)
	register("nobody to dial", checkDialNobody)
	register("Close of a connection", checkCloseConn)
	register("Close of the endpoint", checkCloseEndpoint)
	register("the peer disappears", checkKill)
}

func checkHello(r *rig) {
	for _, n := range []int{0, 1, 100, 4096} {
		hello, answer := make([]byte, n), make([]byte, 4096-n)
		pattern(1, hello)
		pattern(2, answer)
		var heard []byte
		a, b, reply, err := r.Connect(hello, func(h []byte) ([]byte, error) {
			heard = bytes.Clone(h)
			return answer, nil
		})
		if err != nil {
			r.Fatalf("hello of %d bytes, answer of %d: %v", len(hello), len(answer), err)
		}
		if !bytes.Equal(heard, hello) || !bytes.Equal(reply, answer) {
			r.Fatalf("hello of %d bytes came as %d, answer of %d as %d, or changed", len(hello), len(heard), len(answer), len(reply))
		}
		r.works(a, b)
		a.Close()
		b.Close()
	}
	r.works(r.AB, r.BA) // the first one is as good as ever
}

// works sends a message each way.
func (r *rig) works(a, b fabric.Conn) {
	r.Helper()
	sa, sb := &side{r: r, ep: r.A, conn: a}, &side{r: r, ep: r.B, conn: b}
	ma, mb := r.area(sa, 16, fabric.LocalOnly), r.area(sb, 16, fabric.LocalOnly)
	sb.post(recv(1, mb, 0, 16))
	sa.post(recv(2, ma, 8, 8))
	sa.do(send(0, ma, 0, 8, 0))
	sb.do(send(0, mb, 8, 8, 0))
	if c := sb.nextReceived(); c.ID != 1 || c.Err != nil {
		r.Fatalf("A to B: received %s", show(c))
	}
	if c := sa.nextReceived(); c.ID != 2 || c.Err != nil {
		r.Fatalf("B to A: received %s", show(c))
	}
}

func checkRefusal(r *rig) {
	refusals := []struct {
		what   string
		hello  int
		answer func([]byte) ([]byte, error)
		text   string
	}{
		{"refused", 10, func([]byte) ([]byte, error) { return nil, errors.New("wrong shard 17") }, "wrong shard 17"},
		{"hello too long", 4097, func([]byte) ([]byte, error) { return nil, nil }, ""},
		{"answer too long", 0, func([]byte) ([]byte, error) { return make([]byte, 4097), nil }, ""},
	}
	for _, f := range refusals {
		a, b, _, err := r.Connect(make([]byte, f.hello), f.answer)
		if err == nil {
			a.Close()
			b.Close()
			r.Fatalf("%s: Dial succeeded", f.what)
		}
		if !strings.Contains(err.Error(), f.text) {
			r.Fatalf("%s: %q does not have the text %q", f.what, err, f.text)
		}
		r.works(r.AB, r.BA)
	}
	r.reconnect()
	r.works(r.a.conn, r.b.conn)
}

func checkDialNobody(r *rig) {
	ctx, cancel := context.WithTimeout(context.Background(), r.Patience)
	defer cancel()
	start := time.Now()
	for _, addr := range []string{"", "nobody-is-here", r.B.Addr() + "-not"} {
		if c, _, err := r.A.Dial(ctx, addr, nil); err == nil {
			c.Close()
			r.Errorf("Dial(%q) succeeded", addr)
		}
	}
	if took := time.Since(start); took > r.Patience/2 {
		r.Errorf("Dial to nobody took %v to fail", took)
	}
}

// lost: s has a posted receive with ID 1, and the connection has just been lost behind its back.
func (r *rig) lost(s *side, local, remote *area) {
	r.Helper()
	if c := s.nextReceived(); c.ID != 1 || !isLost(c.Err) {
		r.Fatalf("posted receive on a lost connection: %s, want ErrBroken or ErrFlushed", show(c))
	}
	s.done = nil
	for i := range uint64(3) {
		s.post(write(10+i, local, 0, remote, 0, 8, 0))
		if c := s.next(); c.ID != 10+i || !isLost(c.Err) {
			r.Fatalf("Write on a lost connection: %s, want ErrBroken or ErrFlushed", show(c))
		}
	}
}

func checkCloseConn(r *rig) {
	local, remote := r.area(r.a, 4096, allRights), r.area(r.b, 4096, allRights)
	for round := range uint64(12) {
		pattern(round, local.bytes())
		closer, other, closerMem, otherMem := r.a, r.b, local, remote
		if round%2 == 1 {
			closer, other, closerMem, otherMem = r.b, r.a, remote, local
		}
		other.post(recv(1, otherMem, 0, 8))
		for i := range uint64(4) {
			closer.post(write(i, closerMem, i*1024, otherMem, i*1024, 1024, 0))
		}
		for range round {
			if r.Progress != nil {
				r.Progress()
			}
		}
		r.armed(other)
		if err := closer.conn.Close(); err != nil {
			r.Fatalf("Close: %v", err)
		}
		before := bytes.Clone(otherMem.bytes())
		start := time.Now()
		other.ep.Wait(r.Patience)
		if took := time.Since(start); took > r.Patience/2 {
			r.Fatalf("the connection was closed by the peer, and Wait took %v", took)
		}
		r.lost(other, otherMem, closerMem)
		closer.conn.Close() // harmless
		// What happens to operations on a connection that one closed oneself: at any rate, no success and no crash.
		posted := closer.conn.Post([]fabric.Op{write(9, closerMem, 0, otherMem, 0, 4096, fabric.Signaled)})
		r.idle()
		for _, c := range closer.done {
			if c.ID == 9 && c.Err == nil {
				r.Fatalf("a Write posted after Close ended well (Post took %d)", posted)
			}
		}
		if d := firstDiff(otherMem.bytes(), before); d >= 0 {
			r.Fatalf("byte %d changed after Close returned", d)
		}
		r.reconnect()
		r.works(r.a.conn, r.b.conn)
	}
}

func checkCloseEndpoint(r *rig) {
	local, remote := r.area(r.a, 256, allRights), r.area(r.b, 256, allRights)
	addr := r.B.Addr()
	r.a.post(recv(1, local, 0, 8))
	if err := r.B.Close(); err != nil {
		r.Fatalf("Close: %v", err)
	}
	before := bytes.Clone(remote.bytes())
	r.lost(r.a, local, remote)
	if d := firstDiff(remote.bytes(), before); d >= 0 {
		r.Fatalf("byte %d changed after Close returned", d)
	}
	if _, err := r.B.Register(remote.mem, guard, 8, allRights); !errors.Is(err, fabric.ErrClosed) {
		r.Errorf("Register after Close: %v, want ErrClosed", err)
	}
	if err := r.B.Revoke(remote.key); err != nil {
		r.Errorf("Revoke after Close, which has revoked everything: %v, want nil", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.Patience)
	defer cancel()
	if _, _, err := r.B.Dial(ctx, r.A.Addr(), nil); !errors.Is(err, fabric.ErrClosed) {
		r.Errorf("Dial after Close: %v, want ErrClosed", err)
	}
	if _, err := r.B.Accept(ctx, nil); !errors.Is(err, fabric.ErrClosed) {
		r.Errorf("Accept after Close: %v, want ErrClosed", err)
	}
	if c, _, err := r.A.Dial(ctx, addr, nil); err == nil {
		c.Close()
		r.Errorf("Dial to a closed endpoint succeeded")
	}
	if err := r.B.Close(); err != nil && !errors.Is(err, fabric.ErrClosed) {
		r.Errorf("second Close: %v, want nil or ErrClosed", err)
	}
}

func checkKill(r *rig) {
	if r.Kill == nil {
		r.Skip("this provider's pair cannot kill")
	}
	local, remote := r.area(r.a, 256, allRights), r.area(r.b, 256, allRights)
	r.a.post(recv(1, local, 0, 8))
	r.a.do(write(1, local, 0, remote, 0, 8, 0))
	r.armed(r.a)
	r.Kill()
	start := time.Now()
	r.a.ep.Wait(r.Patience)
	if took := time.Since(start); took > r.Patience/2 {
		r.Fatalf("the peer disappeared, and Wait took %v", took)
	}
	r.b.conn = nopConn{}
	r.lost(r.a, local, remote)
}

// nopConn stands for a connection that is not to be touched any more.
type nopConn struct{ fabric.Conn }

func (nopConn) Poll([]fabric.Completion) int { return 0 }
