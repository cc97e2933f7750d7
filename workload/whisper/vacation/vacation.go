// Package vacation is a travel agency: clients book cars, flights and rooms for customers, in a transactional memory with a redo log.
//
// It is the application of that name of STAMP (Cao Minh et al., IISWC 2008), which WHISPER runs on Mnemosyne: its tables, its actions and
// their mix.
package vacation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/tm"
)

// Params are the benchmark's parameters, with the letters of the original's options.
type Params struct {
	Relations int           // r: cars, flights, rooms and customers there can be, of each
	Clients   int           // c: threads
	Queries   int           // n: resources that an action looks at
	Range     int           // q: percentage of the relations that actions look at
	User      int           // u: percentage of actions that are bookings; half of the others remove customers, half change the offer
	Think     time.Duration // work besides an action; default: none
}

// Default is the original's mix with much contention; with fewer relations than WHISPER's 4 million, so that a region is small.
func Default() Params {
	return Params{Relations: 16 << 10, Clients: 4, Queries: 4, Range: 60, User: 90}
}

// Vacation implements workload.Workload.
type Vacation struct{ p Params }

// New checks the parameters; those that are zero get their default.
func New(p Params) (*Vacation, error) {
	def := Default()
	for _, v := range []struct {
		name     string
		at       *int
		def, max int
	}{
		{"relations", &p.Relations, def.Relations, 1 << 24}, {"clients", &p.Clients, def.Clients, 16}, {"queries", &p.Queries, def.Queries, 64},
		{"range", &p.Range, def.Range, 100}, {"user", &p.User, def.User, 100},
	} {
		if *v.at == 0 {
			*v.at = v.def
		}
		if *v.at < 1 || *v.at > v.max {
			return nil, fmt.Errorf("vacation: %s = %d: want 1 to %d", v.name, *v.at, v.max)
		}
	}
	if p.Think < 0 {
		return nil, fmt.Errorf("vacation: think = %v: want 0 or more", p.Think)
	}
	return &Vacation{p}, nil
}

// Name implements workload.Workload.
func (w *Vacation) Name() string { return "vacation" }

// Threads implements workload.Workload.
func (w *Vacation) Threads() int { return w.p.Clients }

// Size implements workload.Workload: what the tables take, with as many bookings as customers come to have, and the logs.
func (w *Vacation) Size() uint64 { return uint64(w.p.Relations)*768 + 16*logSize + 160<<10 }

const logSize = 16 << 10

func (w *Vacation) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Relations)}, Pool: ptx.Options{Log: ptx.Redo, LogSize: logSize, Root: 64}}
}

// Prepare implements workload.Workload: every resource is offered, every customer is known.
func (w *Vacation) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		a := &agency{tm.New(d.Pool), d}
		t := workload.NewThread(0, 1, app.Still{})
		rng := rand.New(rand.NewPCG(1, 0x7661636174696f6e))
		for from := 0; from < w.p.Relations; from += batch {
			err := a.mem.Run(t, func(tx *tm.Tx) error {
				for id := from + 1; id <= min(from+batch, w.p.Relations); id++ {
					for k := range resources {
						if err := a.offer(tx, k, uint64(id), uint64(1+rng.IntN(5))*100, price(rng)); err != nil {
							return err
						}
					}
					if err := a.addCustomer(tx, uint64(id)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// batch is how many customers are prepared in a transaction.
const batch = 4

func price(rng *rand.Rand) uint64 { return uint64(rng.IntN(5)*10 + 50) }

// Open implements workload.Workload.
func (w *Vacation) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	return &program{w.p, agency{tm.New(d.Pool), d}}, nil
}

type program struct {
	p Params
	agency
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	for range n {
		app.Think(t, p.p.Think)
		if err := p.mem.Run(t, p.draw(t.Rand)); err != nil {
			return err
		}
	}
	return nil
}

// id is a relation that actions look at.
func (p *program) id(rng *rand.Rand) uint64 {
	return 1 + uint64(rng.IntN(max(1, p.p.Relations*p.p.Range/100)))
}

// draw is the next action of a client. What it is about is drawn before, so that it is the same if it has to run again.
func (p *program) draw(rng *rand.Rand) func(*tm.Tx) error {
	switch action := rng.IntN(100); {
	case action < p.p.User:
		customer, wishes := p.id(rng), make([]resource, 1+rng.IntN(p.p.Queries))
		for i := range wishes {
			wishes[i] = resource{kind(rng.IntN(int(resources))), p.id(rng)}
		}
		return func(tx *tm.Tx) error { return p.book(tx, customer, wishes) }
	case action&1 == 0:
		customer := p.id(rng)
		return func(tx *tm.Tx) error { return p.removeCustomer(tx, customer) }
	default:
		type change struct {
			resource
			more  bool
			price uint64
		}
		changes := make([]change, 1+rng.IntN(p.p.Queries))
		for i := range changes {
			changes[i] = change{resource{kind(rng.IntN(int(resources))), p.id(rng)}, rng.IntN(2) == 0, price(rng)}
		}
		return func(tx *tm.Tx) error {
			for _, c := range changes {
				var err error
				if c.more {
					err = p.offer(tx, c.kind, c.id, 100, c.price)
				} else {
					err = p.withdraw(tx, c.kind, c.id, 100)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
}
