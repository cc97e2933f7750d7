// Package ycsb is a workload of the Yahoo! Cloud Serving Benchmark (Cooper et al., SoCC 2010) on the relational engine, with
// WHISPER's mix: one table of rows with ten texts, of which a transaction reads a row or writes all fields of one. Some rows
// are used much more than others.
package ycsb

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/relational"
)

// Params are the benchmark's parameters. Those that are zero get their default.
type Params struct {
	Rows    int // of the table
	Writes  int // percentage of transactions that write
	Skew    int // theta of the Zipf distribution by which rows are drawn, in hundredths
	Threads int
	Think   time.Duration // work besides a transaction; default: none
}

// Default is WHISPER's mix.
func Default() Params { return Params{Rows: 10_000, Writes: 80, Skew: 99, Threads: 1} }

const (
	fields    = 10
	fieldSize = 100
)

// YCSB implements workload.Workload.
type YCSB struct{ p Params }

// New checks the parameters.
func New(p Params) (*YCSB, error) {
	def := Default()
	for _, v := range []struct {
		name     string
		at       *int
		def, max int
	}{{"rows", &p.Rows, def.Rows, 1 << 24}, {"writes", &p.Writes, def.Writes, 100}, {"skew", &p.Skew, def.Skew, 99}, {"threads", &p.Threads, def.Threads, 16}} {
		if *v.at == 0 {
			*v.at = v.def
		}
		if *v.at < 1 || *v.at > v.max {
			return nil, fmt.Errorf("ycsb: %s = %d: want 1 to %d", v.name, *v.at, v.max)
		}
	}
	if p.Think < 0 {
		return nil, fmt.Errorf("ycsb: think = %v: want 0 or more", p.Think)
	}
	return &YCSB{p}, nil
}

// Name implements workload.Workload.
func (w *YCSB) Name() string { return "ycsb" }

// Threads implements workload.Workload.
func (w *YCSB) Threads() int { return w.p.Threads }

// Size implements workload.Workload: a row and its texts take about 1.6 KiB.
func (w *YCSB) Size() uint64 { return uint64(w.p.Rows)*1664 + 16*logSize + 192<<10 }

const logSize = 8 << 10

func schema() relational.Schema {
	s := relational.Schema{Name: "usertable"}
	for i := range fields {
		s.Columns = append(s.Columns, relational.Text(fmt.Sprintf("field%d", i), fieldSize))
	}
	return s
}

func (w *YCSB) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Rows)}, Pool: ptx.Options{Log: ptx.Counted, LogSize: logSize, Root: relational.RootSize(schema())}}
}

// text is a field: what it says follows from its row, its column and a version, which all fields of a row share.
func text(key uint64, field int, version uint64) string {
	var b [fieldSize]byte
	binary.LittleEndian.PutUint64(b[:], version)
	app.Fill(b[8:], app.Mix(key<<8|uint64(field))^version)
	return string(b[:])
}

// Prepare implements workload.Workload.
func (w *YCSB) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		db := relational.Open(d, schema())
		t := workload.NewThread(0, 1, app.Still{})
		for from := 0; from < w.p.Rows; from += batch {
			err := db.Run(t, func(tx *relational.Tx) error {
				for key := uint64(from); key < uint64(min(from+batch, w.p.Rows)); key++ {
					row := make(relational.Row, fields)
					for i := range row {
						row[i].Text = text(key, i, 0)
					}
					if err := db.Table("usertable").Insert(tx, key, row); err != nil {
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

// batch is how many rows are prepared in a transaction.
const batch = 10

// Open implements workload.Workload.
func (w *YCSB) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	db := relational.Open(d, schema())
	return &program{w.p, db, db.Table("usertable"), newZipf(w.p.Rows, float64(w.p.Skew)/100)}, nil
}

type program struct {
	p     Params
	db    *relational.DB
	users *relational.Table
	keys  *zipf
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	for range n {
		key := app.Mix(uint64(p.keys.draw(t.Rand.Float64()))) % uint64(p.p.Rows) // the popular ones are anywhere
		version := t.Rand.Uint64()
		write := t.Rand.IntN(100) < p.p.Writes
		app.Think(t, p.p.Think)
		err := p.db.Run(t, func(tx *relational.Tx) error {
			row, err := p.users.Must(tx, key)
			if err != nil {
				return err
			}
			for i := range fields {
				if !write {
					row.Text(i)
				} else if err := row.SetText(i, text(key, i, version)); err != nil {
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
}

// Check implements workload.Program: all rows are there, and all fields of a row are of one version, and say what they should.
func (p *program) Check() error {
	return p.db.Look(func(tx *relational.Tx) (err error) {
		if err := p.db.Check(tx); err != nil {
			return err
		}
		rows := 0
		p.users.Scan(tx, relational.Primary, 0, ^uint64(0), func(u relational.Tuple) bool {
			rows++
			for i := range fields {
				got := u.Text(i)
				if len(got) != fieldSize {
					err = fmt.Errorf("%w: field %d of row %d has %d bytes, want %d", app.ErrDamaged, i, u.Key(), len(got), fieldSize)
					return false
				}
				if version := binary.LittleEndian.Uint64([]byte(u.Text(0))); got != text(u.Key(), i, version) {
					err = fmt.Errorf("%w: field %d of row %d is not what version %#x of the row says", app.ErrDamaged, i, u.Key(), version)
					return false
				}
			}
			return true
		})
		if err == nil && rows != p.p.Rows {
			err = fmt.Errorf("%w: %d rows, want %d", app.ErrDamaged, rows, p.p.Rows)
		}
		return err
	})
}

// Content implements app.Program.
func (p *program) Content() (sum uint64) {
	p.db.Look(func(tx *relational.Tx) error {
		sum = p.db.Content(tx)
		return nil
	})
	return sum
}

// zipf draws numbers below n, small ones more often (Gray et al., Quickly Generating Billion-Record Synthetic Databases, SIGMOD
// 1994, as YCSB does).
type zipf struct{ n, theta, zetan, alpha, eta float64 }

func newZipf(n int, theta float64) *zipf {
	z := &zipf{n: float64(n), theta: theta, alpha: 1 / (1 - theta)}
	for i := range n {
		z.zetan += 1 / math.Pow(float64(i+1), theta)
	}
	z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - (1+math.Pow(0.5, theta))/z.zetan)
	return z
}

// draw makes a number of one in [0, 1).
func (z *zipf) draw(u float64) int {
	uz := u * z.zetan
	switch {
	case uz < 1:
		return 0
	case uz < 1+math.Pow(0.5, z.theta):
		return int(min(1, z.n-1))
	}
	return int(min(z.n-1, z.n*math.Pow(z.eta*u-z.eta+1, z.alpha)))
}
