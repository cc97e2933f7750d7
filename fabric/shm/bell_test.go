package shm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"whale/fabric"
	"whale/pmem"
)

// player is one side of a ping-pong between two processes: each waits, parked, until the other's turn number appears
// in its memory, spends a random while, and writes the next.
type player struct {
	e          *Endpoint
	c          fabric.Conn
	mine       pmem.Memory // word 0: the turn; the other side writes it
	theirs     fabric.Key
	arm        func(*bell) bool
	limit      time.Duration
	brisk      bool // no dawdling: to measure
	parked     int
	completion [4]fabric.Completion
	ended      func() bool // the other side gave up
}

var arms = map[string]func(*bell) bool{
	"right": (*bell).arm,
	// The fault that the order of Arm excludes: looking first, and saying afterwards that one sleeps.
	"look before parked": func(b *bell) bool {
		if rings := b.words.rings.Load(); rings != b.seen {
			b.seen = rings
			return false
		}
		if b.gap != nil {
			b.gap()
		}
		b.words.parked.Swap(1)
		return true
	},
}

// await parks until the turn is there. False: the wake-up was lost; the turn was there, and nobody rang within limit.
func (p *player) await(turn uint64) bool {
	for {
		for range 1 + rand.IntN(4) { // how long a loop polls before it parks
			if p.mine.Load64(0) >= turn {
				return true
			}
		}
		p.dawdle() // the turn may come and be announced now
		if !p.arm(p.e.bell) {
			continue
		}
		p.parked++
		began := time.Now()
		p.e.Wait(p.limit)
		if time.Since(began) < p.limit {
			continue
		}
		if p.mine.Load64(0) >= turn || p.ended != nil && p.ended() {
			return false
		}
	}
}

func (p *player) play(turn uint64) {
	p.dawdle()
	op := fabric.Op{Kind: fabric.Write8, Flags: fabric.Signaled | fabric.Notify, Remote: fabric.Addr{Key: p.theirs}, A: turn}
	p.c.Post([]fabric.Op{op})
	if n := p.c.Poll(p.completion[:]); n != 1 || p.completion[0].Err != nil {
		panic(fmt.Sprint("play: ", n, p.completion[0].Err))
	}
}

// widen makes the gaps of both sides of a doorbell long enough to be met. Before connections are made, for their watches
// ring too.
func widen(e *Endpoint, brisk bool) {
	if !brisk {
		e.bell.gap = dawdle
	}
}

func (p *player) dawdle() {
	if !p.brisk {
		dawdle()
	}
}

// dawdle takes up to about a microsecond, or nothing.
func dawdle() {
	if rand.IntN(4) == 0 {
		return
	}
	for n := rand.IntN(200); n > 0; n-- {
		spin.Add(1)
	}
}

// linger is longer than the other side takes to dawdle and park: ringing has to meet all of that.
func linger() {
	for range rand.IntN(16) {
		dawdle()
	}
}

var spin atomic.Uint64

// rolePong (folder, memory, peer, limit, arm, brisk) answers every odd turn.
func rolePong(args []string) {
	e, err := Open(args[0], Options{Secret: testSecret})
	check(err)
	widen(e, args[5] == "true")
	m, err := pmem.Open(args[1])
	check(err)
	key, err := e.Register(m, 0, 64, fabric.RemoteWrite)
	check(err)
	hello := make([]byte, 8)
	*(*uint64)(unsafe.Pointer(&hello[0])) = uint64(key)
	c, answer, err := e.Dial(context.Background(), args[2], hello)
	check(err)
	limit, err := time.ParseDuration(args[3])
	check(err)
	p := &player{e: e, c: c, mine: m, theirs: *(*fabric.Key)(unsafe.Pointer(&answer[0])), arm: arms[args[4]], limit: limit, brisk: args[5] == "true"}
	if !p.brisk {
		c.(*conn).peer.bell.gap = linger
	}
	for turn := uint64(1); ; turn += 2 {
		if !p.await(turn) {
			fmt.Println("lost", turn)
			os.Exit(0)
		}
		p.play(turn + 1)
	}
}

// pingPong plays up to so many turns and says in which one a wake-up was lost, or 0.
func pingPong(t testing.TB, turns uint64, limit time.Duration, arm string, brisk bool) (lost uint64, parked int, took time.Duration) {
	e := open(t, t.TempDir())
	widen(e, brisk)
	mine, theirs := mapped(t, 64), mapped(t, 64)
	key := register(t, e, mine, fabric.RemoteWrite)
	pong := start(t, "pong", t.TempDir(), theirs.Name(), e.Addr(), limit.String(), arm, fmt.Sprint(brisk))
	var hello fabric.Key
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := e.Accept(ctx, func(b []byte) ([]byte, error) {
		hello = *(*fabric.Key)(unsafe.Pointer(&b[0]))
		return (*[8]byte)(unsafe.Pointer(&key))[:], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &player{e: e, c: c, mine: mine, theirs: hello, arm: arms[arm], limit: limit, brisk: brisk}
	if !p.brisk {
		c.(*conn).peer.bell.gap = linger
	}
	p.ended = func() bool {
		select {
		case line, ok := <-pong.lines:
			if _, err := fmt.Sscanf(line, "lost %d", &lost); err != nil {
				t.Fatalf("pong said %q (%v)", line, ok)
			}
			return true
		default:
			return false
		}
	}
	began := time.Now()
	for turn := uint64(1); turn < turns; turn += 2 {
		p.play(turn)
		if !p.await(turn + 1) {
			if lost == 0 {
				lost = turn + 1
			}
			return lost, p.parked, time.Since(began)
		}
	}
	return 0, p.parked, time.Since(began)
}

// TestNoWakeUpIsLost is the stress of the doorbell: two processes, both parking, at random moments.
func TestNoWakeUpIsLost(t *testing.T) {
	turns := uint64(200_000)
	if testing.Short() || raceEnabled { // the detector sees no mapped memory, and makes all else slow
		turns = 20_000
	}
	lost, parked, took := pingPong(t, turns, 2*time.Second, "right", false)
	if lost != 0 {
		t.Fatalf("turn %d was there, and its wake-up was lost", lost)
	}
	if uint64(parked) < turns/10 {
		t.Fatalf("parked only %d times in %d turns: this shows nothing", parked, turns)
	}
	t.Logf("%d turns, parked %d times here, %v a turn", turns, parked, took/time.Duration(turns))
}

// TestLostWakeUpIsCaught shows that the stress finds the classic fault.
func TestLostWakeUpIsCaught(t *testing.T) {
	lost, parked, took := pingPong(t, 1_000_000, 200*time.Millisecond, "look before parked", false)
	if lost == 0 {
		t.Fatal("the broken doorbell passed")
	}
	t.Logf("caught at turn %d (parked %d times here, %v)", lost, parked, took)
}

// TestRingBesideArm puts each of the two between the other's two accesses: the ring is seen, or it is heard.
func TestRingBesideArm(t *testing.T) {
	rings := map[string]func(*bell){
		"right": func(b *bell) { b.ring() },
		"look before ring": func(b *bell) {
			parked := b.words.parked.Load()
			if b.gap != nil {
				b.gap()
			}
			if b.words.rings.Add(1); parked != 0 {
				write(b.fd)
			}
		},
	}
	lost := func(arm func(*bell) bool, ring func(*bell), ringInside bool) bool {
		b, err := newBell(new(doorbell))
		if err != nil {
			t.Fatal(err)
		}
		defer b.close()
		var armed bool
		once := func(f func()) func() { return func() { b.gap = func() {}; f() } }
		if ringInside {
			b.gap = once(func() { ring(b) })
			armed = arm(b)
		} else {
			b.gap = once(func() { armed = arm(b) })
			ring(b)
		}
		return armed && !readable(b.fd)
	}
	for armName, arm := range arms {
		for ringName, ring := range rings {
			got := lost(arm, ring, true) || lost(arm, ring, false)
			if want := armName != "right" || ringName != "right"; got != want {
				t.Errorf("arm %q, ring %q: wake-up lost %v, want %v", armName, ringName, got, want)
			}
		}
	}
}
