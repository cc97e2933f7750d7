// Package crashtest loses power under the applications of the suite. A run's transactions have an effect that is known: the
// same run without a loss shows the contents after each. So what a loss of power leaves, on the primary or on a mirror, must open, pass
// the application's own check, and have the content that is between what has committed and what is under way; and then it
// must go on.
//
// Package mirror's own tests look at single words and ptx's at single blocks; this one looks at whether an application uses them well.
package crashtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/pmem"
	"whale/workload"
	"whale/workload/whisper/app"
)

// Options say how much is tried. The zero value is 12 transactions in each of 4 runs a strategy.
type Options struct {
	Transactions int // of a run, the threads' in turn
	Runs         int // of each strategy
}

func (o *Options) fill() {
	if o.Transactions == 0 {
		o.Transactions = 12
	}
	if o.Runs == 0 {
		o.Runs = 4
	}
}

// broken is a way to break the mirroring below an application.
type broken struct {
	name     string
	strategy mirror.Strategy
	edit     func(op fabric.Op) []fabric.Op
	unfenced bool // the primary's memory
}

// variants leave an application's epochs without order, each under another strategy: what losses of power then leave has to be found.
var variants = []broken{
	{name: "none, no fence here", strategy: mirror.None, unfenced: true},
	{name: "SM-RC, visible is counted as durable", strategy: mirror.RemoteCommit, edit: func(op fabric.Op) []fabric.Op {
		if op.Kind == fabric.Flush {
			op.A = fabric.Visible
		}
		return []fabric.Op{op}
	}},
	{name: "SM-OB, no fence between epochs", strategy: mirror.OrderedBuffering, edit: func(op fabric.Op) []fabric.Op {
		if op.Kind == fabric.Fence && op.Flags&fabric.Signaled == 0 {
			return nil
		}
		return []fabric.Op{op}
	}},
	{name: "SM-DD, DDIO on", strategy: mirror.DDIODisabled, edit: func(op fabric.Op) []fabric.Op {
		op.Flags &^= fabric.NonTemporal
		return []fabric.Op{op}
	}},
}

// Run loses power at random points under each strategy, on every side; and shows that it would find what is wrong, by
// breaking the mirroring below the application. The workload's Open returns an app.Program; its data should be small, a few hundred KiB, for
// each loss of power copies them.
func Run(t *testing.T, w workload.Workload, o Options) {
	o.fill()
	for _, s := range mirror.Strategies {
		t.Run(s.String(), func(t *testing.T) {
			losses, runs := 0, o.Runs
			if s == mirror.None { // less happens in a run
				runs *= 3
			}
			for seed := range uint64(runs) {
				n, wrong := run(t, w, o, seed, broken{strategy: s})
				if losses += n; wrong != nil {
					t.Fatal(wrong)
				}
			}
			if losses < 30*o.Runs {
				t.Errorf("only %d losses of power in %d runs", losses, o.Runs)
			}
			t.Logf("%d losses of power", losses)
		})
	}
	for _, v := range variants {
		t.Run("broken: "+v.name, func(t *testing.T) {
			losses := 0
			for seed := range uint64(10 * o.Runs) {
				n, wrong := run(t, w, o, seed, v)
				if losses += n; wrong != nil {
					t.Logf("found after %d losses of power: %v", losses, wrong)
					return
				}
			}
			t.Errorf("not found by %d losses of power", losses)
		})
	}
}

// contents are those before the first transaction and after each.
func contents(t testing.TB, w workload.Workload, o Options, seed uint64) []uint64 {
	r, err := mirror.Open(context.Background(), pmem.HeapOf(size(w), pmem.ADR), nil, nil, mirror.Options{Threads: w.Threads()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Prepare(r); err != nil {
		t.Fatal(err)
	}
	p := open(t, w, r)
	all := []uint64{p.Content()}
	threads := threads(w, seed)
	for i := range o.Transactions {
		if err := p.Run(threads[i%len(threads)], 1); err != nil {
			t.Fatal(err)
		}
		all = append(all, p.Content())
	}
	if err := p.Check(); err != nil {
		t.Fatalf("without any loss of power: %v", err)
	}
	return all
}

func size(w workload.Workload) uint64 { return (mirror.HeadSize + w.Size() + 63) &^ 63 }

func threads(w workload.Workload, seed uint64) []*workload.Thread {
	all := make([]*workload.Thread, w.Threads())
	for i := range all {
		all[i] = workload.NewThread(i, seed, app.Still{})
	}
	return all
}

func open(t testing.TB, w workload.Workload, r *mirror.Region) app.Program {
	p, err := w.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return p.(app.Program)
}

// run is one run. wrong is the first thing that is.
func run(t testing.TB, w workload.Workload, o Options, seed uint64, v broken) (losses int, wrong error) {
	want := contents(t, w, o, seed)
	armed := false // what is broken is so once the data are there
	wo := mirrortest.Options{Size: size(w) - mirror.HeadSize, Net: simfab.Options{Relaxed: true, Late: seed%2 == 1}, Seed: seed}
	wo.Spoil = mirrortest.Edit(func(op fabric.Op) []fabric.Op {
		if armed && v.edit != nil {
			return v.edit(op)
		}
		return []fabric.Op{op}
	})
	if v.unfenced {
		wo.SpoilHere = func(m pmem.Memory) pmem.Memory { return &unfenced{m, &armed} }
	}
	world := mirrortest.New(t, wo)
	region := world.Open(mirror.Options{Strategy: v.strategy, Threads: w.Threads()})
	if err := w.Prepare(region); err != nil {
		t.Fatal(err)
	}
	p := open(t, w, region)
	world.Settle()
	rng := rand.New(rand.NewPCG(seed, 0x637261736874))
	done, often := 0, 1+rng.IntN(60)
	look := func(side string, left *pmem.Simulated) {
		losses++
		if err := survives(t, w, left, want[done:min(done+2, len(want))], rng); err != nil && wrong == nil {
			wrong = fmt.Errorf("run %d, transaction %d, %s: %w", seed, done+1, side, err)
		}
	}
	armed = true
	world.Point = func() {
		if wrong != nil || rng.IntN(often) > 0 {
			return
		}
		look("here", world.Here.Crash(world.Rng))
		if v.strategy != mirror.None {
			look("there", world.There[0].Crash(world.Rng))
		}
	}
	all := threads(w, seed)
	for i := range o.Transactions {
		if err := p.Run(all[i%len(all)], 1); err != nil {
			t.Fatal(err)
		}
		if got := p.Content(); wrong == nil && got != want[i+1] {
			t.Fatalf("run %d: after transaction %d the content is %#x, and was %#x without mirrors: is the run not determined by its seed?", seed, i+1, got, want[i+1])
		}
		done++
	}
	return losses, wrong
}

// survives says what is wrong with what a loss of power has left, one of whose contents it must be.
func survives(t testing.TB, w workload.Workload, left *pmem.Simulated, one []uint64, rng *rand.Rand) error {
	p, err := w.Open(mirrortest.Alone(t, left, w.Threads()))
	if err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return err
	}
	found := false
	got := p.(app.Program).Content()
	for _, want := range one {
		found = found || got == want
	}
	if !found {
		return fmt.Errorf("the content is %#x, want one of %#x: a transaction is there in part, or one that committed is not", got, one)
	}
	if rng.IntN(4) > 0 {
		return nil
	}
	if err := p.Run(workload.NewThread(0, rng.Uint64(), app.Still{}), 3); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("having gone on: %w", err)
	}
	return nil
}

// unfenced is a memory whose fences do nothing once it is armed.
type unfenced struct {
	pmem.Memory
	armed *bool
}

func (m *unfenced) Fence() {
	if !*m.armed {
		m.Memory.Fence()
	}
}
