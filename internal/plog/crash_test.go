package plog

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"whale/pmem"
)

var crashSeed = flag.Uint64("crash.seed", 0, "run TestCrash with this seed only")

// TestCrash takes the power away at random points inside Append, Extend, Commit, SetEpoch, AddEntry, CutTo and Recover,
// several lives long, and looks at what the next start finds.
func TestCrash(t *testing.T) {
	first, last := uint64(1), uint64(32)
	skipUnderRace(t)
	if testing.Short() {
		last = 4
	}
	if *crashSeed != 0 {
		first, last = *crashSeed, *crashSeed
	}
	points := 0
	for seed := first; seed <= last && !t.Failed(); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("again: go test -run 'TestCrash$' ./internal/plog -crash.seed=%d", seed)
			c := &crasher{T: t, dice: rand.New(rand.NewPCG(seed, 7)), backup: seed%2 == 0}
			c.run()
			points += c.points
		})
	}
	t.Logf("%d crashes", points)
	if points < int(last-first) {
		t.Errorf("only %d crashes: the test is void", points)
	}
}

// breakable is a memory that calls back at every step towards durability: before and after it. Between two such steps
// nothing changes that the crash model does not already allow.
type breakable struct {
	*pmem.Simulated
	step func()
}

func (b *breakable) Persist(off, n uint64) { b.step(); b.Simulated.Persist(off, n) }
func (b *breakable) Fence()                { b.step(); b.Simulated.Fence(); b.step() }
func (b *breakable) Store64(off, v uint64) { b.step(); b.Simulated.Store64(off, v); b.step() }

// crasher is a member, what it was told, and what it has promised.
type crasher struct {
	*testing.T
	dice   *rand.Rand
	backup bool // grows by Extend of what a primary on the heap has
	points int

	mem *breakable
	log *Log
	far *Log // the primary, if this is a backup

	all     []entry // what the log holds, by seq - 1, and during a cut still what it drops
	durable int     // all of these have been committed
	keep    int     // the least that must survive: durable, or less during a cut
	limit   int     // the most that may; len(all) except after a cut
	epoch   uint32  // stored durably
	next    uint32  // perhaps stored, while SetEpoch or AddEntry runs
}

type entry struct {
	bytes    string
	groupEnd bool
}

func (c *crasher) run() {
	g := smallGeometry
	m := pmem.Simulate(g.Size(), pmem.ADR, c.dice.Uint64())
	must(c, Format(m, g, testIdentity))
	for life := range 8 {
		c.start(m)
		for range 5 + c.dice.IntN(40) {
			c.act()
		}
		if life%3 == 2 {
			m = c.mem.Simulated.ProcessCrash()
		} else {
			m = c.mem.Simulated.Crash(c.dice)
		}
	}
}

// start is a new life on m: recovery, with crashes inside it, then a new epoch.
func (c *crasher) start(m *pmem.Simulated) {
	c.mem = &breakable{Simulated: m}
	c.check(m) // before anything is changed
	c.mem.step = c.mayCrash
	c.log = c.recover(c.mem)
	end := int(c.log.End())
	c.all, c.durable, c.keep, c.limit = c.all[:end], end, end, end
	c.epoch = c.log.Epoch()
	if c.backup {
		c.restartPrimary()
	}
	c.view(end)
}

// recover opens a memory and checks that what is found may be found.
func (c *crasher) recover(m pmem.Memory) *Log {
	c.Helper()
	l, err := Open(m, "a.whale", testIdentity)
	must(c, err)
	if l.Epoch() < c.epoch || l.Epoch() > max(c.next, c.epoch) {
		c.Fatalf("epoch %d, stored were %d to %d", l.Epoch(), c.epoch, c.next)
	}
	n := 0
	_, err = l.Recover(func(r Record, rec Rec) {
		off, size := l.g.Span(rec)
		got := string(l.arena[off : off+size])
		if n >= len(c.all) || got != c.all[n].bytes {
			c.Fatalf("seq %d came back as something else: %+v; the log had %d records", n+1, r, len(c.all))
		}
		n++
	})
	must(c, err)
	if n < c.groups(c.keep) || n > c.limit || n != c.groups(n) || l.End() != uint64(n) {
		c.Fatalf("found %d records, want whole groups from %d to %d", n, c.groups(c.keep), c.limit)
	}
	return l
}

// check recovers a copy, and once more: the first recovery must have left nothing to find.
func (c *crasher) check(m *pmem.Simulated) {
	c.Helper()
	clone := m.Clone()
	l := c.recover(clone)
	if again := reopen(c, clone); again.End() != l.End() {
		c.Fatalf("recovered to %d, and a second time to %d", l.End(), again.End())
	}
	if c.far != nil {
		prefixEqual(c, l, c.far)
	}
	tail := uint64(0)
	for _, r := range recs(c, l) {
		if off, _ := l.g.Span(r); !allZero(l.arena[tail:off]) {
			c.Fatalf("the rest of the segment behind offset %d is not zero, seq %d opened the next", tail, r.Seq)
		}
		tail = r.End()
	}
}

func (c *crasher) mayCrash() {
	if c.dice.IntN(16) > 0 {
		return
	}
	c.points++
	switch c.dice.IntN(6) {
	case 0:
		c.check(c.mem.Simulated.CrashDurable())
	case 1:
		c.check(c.mem.Simulated.CrashAll())
	default:
		c.check(c.mem.Simulated.Crash(c.dice))
	}
}

// groups is n without a group that has no end.
func (c *crasher) groups(n int) int {
	for n > 0 && !c.all[n-1].groupEnd {
		n--
	}
	return n
}

func (c *crasher) act() {
	switch p := c.dice.IntN(20); {
	case p < 11:
		c.group()
	case p < 17:
		c.log.Commit()
		c.durable, c.keep = int(c.log.End()), int(c.log.End())
	case p < 18:
		c.view(int(c.log.End()))
	case p < 19:
		c.cut(c.groups(c.dice.IntN(len(c.all) + 1)))
	default:
		c.view(c.groups(c.dice.IntN(len(c.all) + 1)))
	}
}

// group appends one to three records here, or at the primary and then here.
func (c *crasher) group() {
	n := 1 + c.dice.IntN(3)
	source := c.log
	if c.backup {
		source = c.far
	}
	for i := range n {
		size := c.dice.IntN(3) * c.dice.IntN(60)
		if c.dice.IntN(8) == 0 {
			size = c.dice.IntN(40000)
		}
		r := Record{Kind: Put, GroupEnd: i == n-1, Seq: source.End() + 1, Epoch: source.term, Key: []byte("k"), Value: pattern(fmt.Sprint(c.dice.Uint64()), size)}
		e := entry{groupEnd: r.GroupEnd}
		if _, ok := source.g.place(source.tail, RecordSize(1, size)); !ok {
			c.cut(c.groups(len(c.all) / 2))
			return
		}
		// A crash inside Append may find the record whole already.
		e.bytes = c.preview(source, &r)
		c.all = append(c.all, e)
		c.limit = len(c.all)
		rec, err := source.Append(&r)
		must(c, err)
		off, size64 := source.g.Span(rec)
		if string(source.arena[off:off+size64]) != e.bytes {
			c.Fatalf("the preview of seq %d is wrong", r.Seq)
		}
		if c.backup {
			receive(c, source, c.log, rec)
			if c.dice.IntN(6) == 0 { // a backup commits what it has, half a group too
				c.log.Commit()
				c.durable, c.keep = len(c.all), len(c.all)
			}
		}
	}
}

// preview is the span that Append will write.
func (c *crasher) preview(l *Log, r *Record) string {
	b := encodeRecord(r)
	if off, _ := l.g.place(l.tail, uint64(len(b))); l.g.firstInSegment(off) {
		h := make([]byte, SegmentHeaderSize)
		headerFor(l.g, off, r.Seq, r.Epoch).encode(h)
		return string(h) + string(b)
	}
	return string(b)
}

// cut drops what is above seq n, then starts an epoch there.
func (c *crasher) cut(n int) {
	c.keep = min(c.keep, n)
	must(c, c.log.CutTo(uint64(n)))
	c.settle(n)
	c.view(n)
}

// view starts an epoch behind seq n, which drops what is above.
func (c *crasher) view(n int) {
	c.next = c.epoch + 1
	must(c, c.log.SetEpoch(c.next))
	c.epoch = c.next
	tail, err := c.log.tailBelow(uint64(n) + 1)
	must(c, err)
	e := EpochEntry{Epoch: c.epoch, FirstSeq: uint64(n) + 1, FirstOff: tail}
	c.keep = min(c.keep, n)
	must(c, c.log.AddEntry(e))
	c.settle(n)
	if c.backup {
		must(c, c.far.SetEpoch(c.epoch))
		must(c, c.far.AddEntry(e))
	}
}

// settle: the log now ends at n for good.
func (c *crasher) settle(n int) {
	c.all, c.durable, c.keep, c.limit = c.all[:n], min(c.durable, n), min(c.keep, n), n
}

// restartPrimary is a primary with the log that the backup has.
func (c *crasher) restartPrimary() {
	c.far = reopen(c, clone(c.log.Memory()))
}

// A backup that has committed half a group loses its power again while recovery cuts that half: the durable end must be
// down before the records are gone.
func TestCrashWhileATornGroupIsCut(t *testing.T) {
	for seed := range uint64(20) {
		dice := rand.New(rand.NewPCG(seed, 8))
		m := pmem.Simulate(smallGeometry.Size(), pmem.ADR, seed)
		must(t, Format(m, smallGeometry, testIdentity))
		l := reopen(t, m)
		enter(t, l, 1)
		put(t, l, "a", 100)
		for range 3 {
			appendRecord(t, l, &Record{Kind: Put, Key: []byte("half")})
		}
		l.Commit()
		m.Fence()
		crashes := 0
		b := &breakable{Simulated: m, step: func() {
			crashes++
			if again := reopen(t, m.Crash(dice)); again.End() != 1 {
				t.Fatalf("recovered to %d", again.End())
			}
		}}
		reopen(t, b)
		if crashes < 5 {
			t.Fatalf("only %d crashes: the test is void", crashes)
		}
	}
}

// A process ends in the middle of recovery, after it has cleared what it cuts and before that is durable. The next one finds
// zeros there, and has to make them durable all the same: a loss of power would bring back what was cut.
func TestWhatIsCutStaysCut(t *testing.T) {
	type ended struct{}
	points, cleared := 0, 0
	for again := true; again; points++ {
		m := pmem.Simulate(smallGeometry.Size(), pmem.ADR, 1)
		must(t, Format(m, smallGeometry, testIdentity))
		l := reopen(t, m)
		enter(t, l, 1)
		tail := put(t, l, "a", 100).End()
		appendRecord(t, l, &Record{Kind: Put, Key: []byte("half")})
		l.Commit()
		m.Fence()

		steps := 0
		b := &breakable{Simulated: m, step: func() {
			if steps++; steps > points {
				panic(ended{})
			}
		}}
		again = func() (survived bool) {
			defer func() { survived = recover() != nil }()
			reopen(t, b)
			return false
		}()
		m = m.ProcessCrash()
		at := smallGeometry.Arena() + tail
		if allZero(m.Bytes()[at:at+RecordHeaderSize]) && !allZero(m.Image()[at:at+RecordHeaderSize]) {
			cleared++
		}
		if end := reopen(t, m).End(); end != 1 {
			t.Fatalf("ended at step %d: recovered to %d", points, end)
		}
		if image := m.CrashDurable(); !allZero(image.Bytes()[at : at+RecordHeaderSize]) {
			t.Fatalf("ended at step %d: what was cut is back after a loss of power", points)
		}
	}
	if cleared == 0 {
		t.Fatalf("%d points, and at none was it cleared and not durable: the test is void", points)
	}
}

// What a process has stored of the durable end may not be durable yet when it ends. The next one does not store it again,
// and has to make it durable: damage in what it covers would be taken for records that were never promised.
func TestRecoverFlushesTheDurableEnd(t *testing.T) {
	m := pmem.Simulate(smallGeometry.Size(), pmem.ADR, 1)
	must(t, Format(m, smallGeometry, testIdentity))
	l := reopen(t, m)
	enter(t, l, 1)
	put(t, l, "a", 100)
	l.Commit()
	m = m.ProcessCrash()
	durable := func() uint64 {
		_, end := SplitWord(ControlOf(m.CrashDurable(), smallGeometry).Durable())
		return end
	}
	if durable() == 1 {
		t.Fatal("the durable end was durable at once: the test is void")
	}
	reopen(t, m)
	if end := durable(); end != 1 {
		t.Fatalf("after recovery a loss of power leaves a durable end of %d, want 1", end)
	}
}
