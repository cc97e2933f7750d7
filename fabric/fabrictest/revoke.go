package fabrictest

import (
	"bytes"
	"errors"

	"whale/fabric"
)

func init() {
	register("Revoke", checkRevoke)
	register("Revoke with operations under way", checkRevokeInFlight)
	register("Revoke of local memory", checkRevokeLocal)
}

// revoked withdraws the key, however often that must be asked for.
func (r *rig) revoked(s *side, key fabric.Key) {
	r.Helper()
	r.until("Revoke returns nil", func() bool {
		err := s.ep.Revoke(key)
		if err != nil && !errors.Is(err, fabric.ErrInFlight) {
			r.Fatalf("Revoke: %v, want nil or ErrInFlight", err)
		}
		return err == nil
	})
}

// checkRevoke: after nil the key is good for nothing, other keys of the same memory are as good as before, and asking
// again is nil.
func checkRevoke(r *rig) {
	local, remote := r.area(r.a, 256, fabric.LocalOnly), r.area(r.b, 256, allRights)
	for _, unknown := range []fabric.Key{0, 12345, remote.key ^ 1<<62, local.key} {
		if err := r.b.ep.Revoke(unknown); err != nil {
			r.Errorf("Revoke of a key that is not there: %v, want nil", err)
		}
	}
	second := *remote
	second.key = r.register(r.b, remote, allRights)
	pattern(1, local.bytes())
	r.a.do(write(0, local, 0, remote, 0, 64, 0))
	r.a.do(write(0, local, 64, &second, 64, 64, 0))
	r.a.settle(&second)
	r.revoked(r.b, remote.key)
	r.revoked(r.b, remote.key)
	r.a.do(write(0, local, 128, &second, 128, 64, 0))
	r.a.settle(&second)
	if d := firstDiff(remote.bytes()[:192], local.bytes()); d >= 0 {
		r.Fatalf("byte %d was not written, around a Revoke of another key", d)
	}
	before := bytes.Clone(remote.bytes())
	ops := []fabric.Op{
		write(1, local, 0, remote, 0, 256, 0), write8(1, remote, 8, 1, 0), read(1, local, 0, remote, 0, 8, 0),
		flush(1, remote, fabric.Visible, fabric.Range, 0), flush(1, remote, fabric.Visible, fabric.Region, 0),
	}
	if r.a.conn.Caps().Atomics {
		ops = append(ops, fetchAdd(1, remote, 0, 1, 0), compareSwap(1, remote, 0, 0, 1, 0))
	}
	for _, op := range ops {
		r.a.post(op, write(2, local, 0, &second, 0, 8, fabric.Signaled))
		r.a.expect(op.Kind, 1, fabric.ErrAccess)
		r.a.expect(fabric.Write, 2, fabric.ErrFlushed)
		r.idle()
		if d := firstDiff(remote.bytes(), before); d >= 0 {
			r.Fatalf("%s under a revoked key changed byte %d", kindName(op.Kind), d)
		}
		r.reconnect()
	}
	r.a.do(read(0, local, 0, &second, 0, 64, 0))
	if third := r.register(r.b, remote, allRights); third == remote.key || third == second.key {
		r.Fatalf("Register gave the key %#x again", third)
	}
}

// checkRevokeInFlight: whatever was under way, from whichever connection, nothing lands once Revoke has returned nil.
func checkRevokeInFlight(r *rig) {
	for round := range uint64(20) {
		local, remote := r.area(r.a, 4096, fabric.LocalOnly), r.area(r.b, 4096, allRights)
		other := r.area(r.b, 4096, allRights)
		a2, b2, _, err := r.Connect(nil, func([]byte) ([]byte, error) { return nil, nil })
		if err != nil {
			r.Fatalf("second connection: %v", err)
		}
		second := &side{r: r, ep: r.A, conn: a2}
		pattern(round, local.bytes())
		for i := range uint64(8) {
			r.a.post(write(i, local, i*512, remote, i*512, 512, 0))
			second.post(write8(i, remote, i*8, i+round, 0), write(i, local, 64, remote, 2048+i*64, 64, fabric.Notify))
		}
		for range round {
			if r.Progress != nil {
				r.Progress()
			}
		}
		r.revoked(r.b, remote.key)
		before := bytes.Clone(remote.bytes())
		r.a.post(write(100, local, 0, remote, 0, 4096, fabric.Signaled))
		r.idle()
		second.poll()
		if d := firstDiff(remote.bytes(), before); d >= 0 {
			r.Fatalf("byte %d changed after Revoke returned nil", d)
		}
		b2.Close()
		a2.Close()
		r.reconnect()
		r.a.do(write(0, local, 0, other, 0, 4096, 0))
		r.a.settle(other)
		if d := firstDiff(other.bytes(), local.bytes()); d >= 0 {
			r.Fatalf("byte %d under another key was not written after the Revoke", d)
		}
	}
}

// checkRevokeLocal: a revoked key is no Local either; a buffer posted before the Revoke receives nothing after it.
func checkRevokeLocal(r *rig) {
	local, remote := r.area(r.a, 256, fabric.LocalOnly), r.area(r.b, 256, allRights)
	into := r.area(r.b, 256, fabric.LocalOnly)
	r.revoked(r.a, local.key)
	for _, op := range []fabric.Op{write(1, local, 0, remote, 0, 8, 0), read(1, local, 0, remote, 0, 8, 0), send(1, local, 0, 8, 0)} {
		r.a.post(op)
		r.a.expect(op.Kind, 1, fabric.ErrLocal)
		r.reconnect()
	}
	local.key = r.register(r.a, local, fabric.LocalOnly)
	pattern(1, local.bytes())
	r.b.post(recv(1, into, 0, 64))
	r.revoked(r.b, into.key)
	r.a.post(send(1, local, 0, 64, 0))
	if c := r.b.nextReceived(); c.ID != 1 || !errors.Is(c.Err, fabric.ErrLocal) {
		r.Fatalf("a message for a buffer whose key was revoked: %s, want ErrLocal", show(c))
	}
	if !bytes.Equal(into.bytes(), make([]byte, 256)) {
		r.Fatalf("a message landed in a buffer whose key was revoked")
	}
}
