// Package tpcc is the workload of TPC-C (TPC Benchmark C, Standard Specification, Revision 5.11) on the relational engine: the orders,
// payments and deliveries of a wholesale supplier. "Clause" in comments is one of that specification.
//
// It is no TPC-C result: there are no terminals, think times or response times; by default a warehouse has a tenth of the
// items and customers.
package tpcc

import (
	"fmt"
	"sync/atomic"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/relational"
)

// Params are how large the database is, and how many use it. Those that are zero get their default.
type Params struct {
	Warehouses int
	Items      int           // the specification's: 100000
	Customers  int           // of a district; the specification's: 3000
	Threads    int           // each is the terminals of one warehouse: number of the thread modulo warehouses
	Spare      int           // KiB for what transactions add: about 1.4 for each order
	Think      time.Duration // work besides a transaction; default: none
}

// Default is one warehouse and one thread, as in what was measured of WHISPER.
func Default() Params {
	return Params{Warehouses: 1, Items: 10_000, Customers: 300, Threads: 1, Spare: 16 << 10}
}

// districts are those of a warehouse.
const districts = 10

// TPCC implements workload.Workload.
type TPCC struct{ p Params }

// New checks the parameters.
func New(p Params) (*TPCC, error) {
	def := Default()
	for _, v := range []struct {
		name          string
		at            *int
		def, min, max int
	}{{"warehouses", &p.Warehouses, def.Warehouses, 1, 255}, {"items", &p.Items, def.Items, 10, 1 << 20}, {"customers", &p.Customers, def.Customers, 3, 60_000},
		{"threads", &p.Threads, def.Threads, 1, 16}, {"spare", &p.Spare, def.Spare, 1, 1 << 26}} {
		if *v.at == 0 {
			*v.at = v.def
		}
		if *v.at < v.min || *v.at > v.max {
			return nil, fmt.Errorf("tpcc: %s = %d: want %d to %d", v.name, *v.at, v.min, v.max)
		}
	}
	if p.Think < 0 {
		return nil, fmt.Errorf("tpcc: think = %v: want 0 or more", p.Think)
	}
	return &TPCC{p}, nil
}

// Name implements workload.Workload.
func (w *TPCC) Name() string { return "tpcc" }

// Threads implements workload.Workload.
func (w *TPCC) Threads() int { return w.p.Threads }

// Size implements workload.Workload: what the initial rows take in blocks, and the spare room.
func (w *TPCC) Size() uint64 {
	warehouse := w.p.Items*560 + districts*(256+w.p.Customers*(1024+1600))
	return uint64(w.p.Items*256+w.p.Warehouses*warehouse+w.p.Spare<<10) + 16*logSize + 512<<10
}

const logSize = 32 << 10

func (w *TPCC) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Warehouses), uint64(w.p.Items), uint64(w.p.Customers)},
		Pool: ptx.Options{Log: ptx.Counted, LogSize: logSize, Root: relational.RootSize(schemas()...)}}
}

// Prepare implements workload.Workload: the initial database of clause 4.3.
func (w *TPCC) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		l := loader{tables: openTables(relational.Open(d, schemas()...)), p: w.p, t: workload.NewThread(0, 0x74706363, app.Still{})}
		return l.load()
	})
}

// Open implements workload.Workload.
func (w *TPCC) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	return &program{p: w.p, tables: openTables(relational.Open(d, schemas()...))}, nil
}

// program is TPC-C on its database.
type program struct {
	p Params
	tables
	now atomic.Int64 // dates are numbers that grow
}

// initialDate is before all dates of transactions.
const initialDate = 1

func (p *program) date() int64 { return initialDate + p.now.Add(1) }

// Run implements workload.Program: the mix of clause 5.2.3.
func (p *program) Run(t *workload.Thread, n int) error {
	g := random{t.Rand, p.p}
	home := 1 + t.Index%p.p.Warehouses
	for range n {
		var f func(*relational.Tx) error
		switch kind := t.Rand.IntN(100); {
		case kind < 45:
			f = p.drawNewOrder(g, home)
		case kind < 88:
			f = p.drawPayment(g, home)
		case kind < 92:
			f = p.drawOrderStatus(g, home)
		case kind < 96:
			f = p.drawDelivery(g, home)
		default:
			f = p.drawStockLevel(g, home)
		}
		app.Think(t, p.p.Think)
		if err := p.db.Run(t, f); err != nil && err != errRollback {
			return err
		}
	}
	return nil
}
