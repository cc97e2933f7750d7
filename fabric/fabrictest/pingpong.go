package fabrictest

import (
	"fmt"
	"sync/atomic"

	"whale/fabric"
)

func init() {
	register("ping-pong", checkPingPong)
}

// checkPingPong: A writes a block and, behind it, the number of the round; B, watching the word, must find the block of
// that round, and writes the number back. On a real provider the two run at the same time.
func checkPingPong(r *rig) {
	block, rounds := uint64(64<<10), uint64(300) // a block long enough to be met half-way
	if r.Progress != nil {
		block, rounds = 512, 100
	}
	local, ack := r.area(r.a, block, fabric.LocalOnly), r.area(r.a, 8, allRights)
	remote := r.area(r.b, block+8, allRights)

	round, waiting := uint64(0), false
	a := func() (done bool) {
		if !waiting {
			round++
			pattern(round, local.bytes())
			ops := []fabric.Op{write(1, local, 0, remote, 0, block, 0), write8(round, remote, block, round, fabric.Signaled)}
			if n := r.a.conn.Post(ops); n != len(ops) {
				r.Fatalf("an idle connection took %d of %d operations", n, len(ops))
			}
			waiting = true
		}
		if r.a.poll(); len(r.a.done) == 0 || ack.word(0) != round {
			return false
		}
		r.a.expect(fabric.Write8, round, nil)
		waiting = false
		return round == rounds
	}

	seen, want := uint64(0), make([]byte, block)
	var wrong atomic.Pointer[string]
	b := func() (done bool) {
		r.b.poll() // frees the queue
		r.b.done = r.b.done[:0]
		now := remote.word(block)
		if now == seen {
			return false
		}
		pattern(now, want)
		d := firstDiff(want, remote.bytes())
		if now != seen+1 || d >= 0 {
			msg := fmt.Sprintf("the word went from %d to %d, and byte %d is not that of the Write before it", seen, now, d)
			wrong.Store(&msg)
			return true
		}
		if r.b.conn.Post([]fabric.Op{write8(now, ack, 0, now, 0)}) != 1 {
			return false
		}
		seen = now
		return seen == rounds
	}

	stop := make(chan struct{})
	ended := make(chan struct{})
	if r.Progress == nil {
		go func() {
			defer close(ended)
			for !b() {
				select {
				case <-stop:
					return
				default: // spins: it must look while the other side writes
				}
			}
		}()
	} else {
		close(ended)
	}
	defer func() { close(stop); <-ended }()
	for done := false; !done; {
		r.until("the ball comes back", func() bool {
			if r.Progress != nil {
				b()
			}
			if msg := wrong.Load(); msg != nil {
				r.Fatalf("round %d: %s", round, *msg)
			}
			before := round
			done = a()
			return done || round != before
		})
	}
}
