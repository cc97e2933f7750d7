package fabrictest

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
)

func init() {
	register("a ring before Arm", checkRingBeforeArm)
	register("a ring after Arm", checkRingAfterArm)
	register("a ring before Disarm", checkRingBeforeDisarm)
	register("Wait ends after its time", checkWaitTimeout)
	register("no ring is lost", checkNoRingLost)
}

// armed arms the endpoint, which must work once all old rings are consumed.
func (r *rig) armed(s *side) {
	r.Helper()
	for range 10 {
		if s.ep.Arm() {
			return
		}
		s.poll()
	}
	r.Fatalf("Arm is false for ever, though nothing arrives")
}

// rings are the operations that ring B, each with a buffer posted where it needs one.
func (r *rig) rings() (*area, map[string]func(n uint64)) {
	local, remote := r.area(r.a, 64, fabric.LocalOnly), r.area(r.b, 64, allRights)
	into := r.area(r.b, 64, fabric.LocalOnly)
	return remote, map[string]func(n uint64){
		"Write": func(n uint64) {
			r.a.post(write(n, local, 0, remote, 8, 40, 0), write(n, local, 0, remote, 0, 8, fabric.Notify|fabric.Signaled))
			r.a.expect(fabric.Write, n, nil)
		},
		"Write8": func(n uint64) {
			r.a.post(write8(n, remote, 0, n, fabric.Notify), fence(n, fabric.Signaled))
			r.a.expect(fabric.Fence, n, nil)
		},
		"Send": func(n uint64) {
			r.b.post(recv(n, into, 0, 64))
			r.a.post(send(n, local, 0, 64, fabric.Signaled))
			r.a.expect(fabric.Send, n, nil)
			r.b.nextReceived()
		},
		"Write, unsignaled": func(n uint64) {
			r.a.post(write(n, local, 0, remote, 0, 8, fabric.Notify))
			r.a.settle(remote)
		},
	}
}

func checkRingBeforeArm(r *rig) {
	remote, rings := r.rings()
	for name, ring := range rings {
		for i := range uint64(5) {
			r.armed(r.b)
			r.b.ep.Wait(0)
			ring(i)
			r.a.settle(remote) // what completed early has landed, and has rung
			if r.b.ep.Arm() {
				r.Fatalf("%s with Notify landed before Arm, and Arm is true", name)
			}
			if !r.b.ep.Arm() {
				r.Fatalf("%s: one ring makes Arm false twice", name)
			}
			r.b.ep.Wait(0)
		}
	}
	// A Write that does not ask for it rings nobody.
	local := r.area(r.a, 64, fabric.LocalOnly)
	r.a.post(write(1, local, 0, remote, 0, 64, 0), write8(2, remote, 0, 1, 0))
	r.a.settle(remote)
	if !r.b.ep.Arm() {
		r.Fatalf("Arm is false after operations without Notify")
	}
}

func checkRingAfterArm(r *rig) {
	bell := r.b.ep.Doorbell()
	remote, rings := r.rings()
	for name, ring := range rings {
		for i := range uint64(5) {
			r.armed(r.b)
			if bell >= 0 && readable(r, bell) {
				r.Fatalf("the doorbell is readable before anything rang")
			}
			ring(i)
			r.a.settle(remote) // what completed early has landed, and has rung
			if bell >= 0 && !readable(r, bell) {
				r.Fatalf("%s with Notify landed after Arm, and the doorbell is not readable", name)
			}
			if r.Progress != nil && i%2 == 0 { // Wait has no clock there, and does not tell whether it rang
				if r.b.ep.Arm() {
					r.Fatalf("%s with Notify landed after Arm, and the next Arm is true", name)
				}
				continue
			}
			start := time.Now()
			r.b.ep.Wait(r.Patience)
			if took := time.Since(start); took > r.Patience/2 {
				r.Fatalf("%s with Notify landed after Arm, and Wait took %v", name, took)
			}
			if bell >= 0 && readable(r, bell) {
				r.Fatalf("the doorbell is readable after Wait consumed the ring")
			}
			if !r.b.ep.Arm() {
				r.Fatalf("%s: Wait consumed the ring, and Arm is false", name)
			}
			r.b.ep.Wait(0)
		}
	}
}

// checkRingBeforeDisarm: whoever takes back an Arm hears of a ring that came meanwhile, and of none that did not.
func checkRingBeforeDisarm(r *rig) {
	remote, rings := r.rings()
	for name, ring := range rings {
		for i := range uint64(5) {
			r.armed(r.b)
			r.b.ep.Disarm()
			r.armed(r.b)
			ring(i)
			r.a.settle(remote)
			r.b.ep.Disarm()
			if r.b.ep.Arm() {
				r.Fatalf("%s with Notify landed after Arm and before Disarm, and the next Arm is true", name)
			}
		}
	}
}

func readable(r *rig, fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			r.Fatalf("poll of the doorbell: %v", err)
		}
		return n == 1 && fds[0].Revents&unix.POLLIN != 0
	}
}

func checkWaitTimeout(r *rig) {
	for _, d := range []time.Duration{0, time.Microsecond, 20 * time.Millisecond} {
		r.armed(r.b)
		start := time.Now()
		r.b.ep.Wait(d)
		took := time.Since(start)
		if took > d+r.Patience/2 {
			r.Fatalf("Wait(%v) took %v", d, took)
		}
		if r.Progress == nil && took < d/2 {
			r.Fatalf("Wait(%v) returned after %v, though nobody rang", d, took)
		}
	}
}

// checkNoRingLost: A counts up a word and rings; B parks whenever it has seen nothing new. On a real provider both run at
// the same time, so that rings meet every moment between the look at the word, Arm and Wait.
func checkNoRingLost(r *rig) {
	remote := r.area(r.b, 8, allRights)
	if r.Progress != nil {
		r.noRingLostStepped(remote)
		return
	}
	const rounds = 10000
	var seen atomic.Uint64
	stop := make(chan struct{})
	posted := make(chan struct{})
	go func() { // A: waits only for B to have seen the last word, so a lost ring leaves both waiting
		defer close(posted)
		rng := newRand(1)
		for i := uint64(1); i <= rounds; i++ {
			op := write8(i, remote, 0, i, fabric.Notify|fabric.Signaled)
			for r.a.conn.Post([]fabric.Op{op}) == 0 {
				select {
				case <-stop:
					return
				default:
					drain(r.a)
				}
			}
			drain(r.a)
			for spin := rng.IntN(300); spin > 0; spin-- {
				seen.Load()
			}
			for i%4 != 0 && seen.Load() < i {
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	}()
	defer func() { close(stop); <-posted }()
	deadline := time.Now().Add(3 * max(r.Patience, 10*time.Second))
	for last := uint64(0); last < rounds; {
		if v := remote.word(0); v != last {
			last = v
			seen.Store(v)
			continue
		}
		if !r.b.ep.Arm() {
			continue
		}
		start := time.Now()
		r.b.ep.Wait(r.Patience)
		if v := remote.word(0); time.Since(start) > r.Patience/2 {
			r.Fatalf("slept through a ring: parked for %v at word %d, which is %d now", time.Since(start), last, v)
		}
		if time.Now().After(deadline) {
			r.Fatalf("too slow: %d of %d rounds", last, rounds)
		}
	}
}

// noRingLostStepped: wherever the ring falls between Arm and the next, either Arm is false or Wait is not to block, which
// on a simulated provider shows in the next Arm: a ring that Wait did not consume makes it false.
func (r *rig) noRingLostStepped(remote *area) {
	rng := newRand(2)
	last, posted := uint64(0), uint64(0)
	for posted < 500 {
		posted++
		r.a.post(write8(posted, remote, 0, posted, fabric.Notify))
		for range rng.IntN(4) {
			r.Progress()
		}
		now := remote.word(0)
		parked := r.b.ep.Arm()
		if parked && now != last {
			r.Fatalf("the word went from %d to %d with a Notify since it was looked at, and Arm is true", last, now)
		}
		if parked {
			r.b.ep.Wait(0)
		}
		last = remote.word(0)
	}
	r.a.settle(remote)
	if remote.word(0) != posted {
		r.Fatalf("the last Write8 is %d, want %d", remote.word(0), posted)
	}
}
