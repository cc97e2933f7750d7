package shm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/pmem"
)

// openControl maps the control file and makes this process its owner.
func (e *Endpoint) openControl() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	path := filepath.Join(e.dir, controlName)
	file, err := pmem.Map(path, controlSize, pmem.Options{})
	if err != nil {
		return fmt.Errorf("shm: %w", err)
	}
	e.file, e.control = file, controlOf(file)
	if err := unix.Flock(int(file.File().Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("shm: %s is open in process %d: stop it, or use another folder", e.dir, e.control.pid.Load())
		}
		return fmt.Errorf("shm: lock %s: %w", path, err)
	}
	c := e.control
	if c.magic.Load() == 0 { // just made, or made by a process that died before anybody could connect
		var serial [8]byte
		if _, err := rand.Read(serial[:]); err != nil {
			return err
		}
		c.serial.Store(binary.LittleEndian.Uint64(serial[:]) >> (keyBits + 2)) // three quarters of the range are left
		c.version.Store(version)
		c.magic.Store(magic)
	}
	if err := checkControl(file); err != nil {
		return err
	}
	return e.recover()
}

// controlOf is the control file in m, which has its size.
func controlOf(m *pmem.File) *control {
	return (*control)(unsafe.Pointer(unsafe.SliceData(m.Bytes())))
}

// checkControl tells a control file of this format from anything else.
func checkControl(m *pmem.File) error {
	if n := uint64(len(m.Bytes())); n != controlSize {
		return fmt.Errorf("shm: %s has %d bytes, expected %d", m.Name(), n, controlSize)
	}
	c := controlOf(m)
	if got := c.magic.Load(); got != magic {
		return fmt.Errorf("shm: %s starts with %#x, expected %#x: it is not the control file of an endpoint", m.Name(), got, uint64(magic))
	}
	if got := c.version.Load(); got != version {
		return fmt.Errorf("shm: %s has format version %d, this program knows %d", m.Name(), got, version)
	}
	return nil
}

// recover withdraws all that an earlier incarnation gave away.
func (e *Endpoint) recover() error {
	c := e.control
	boot, err := pmem.Boot()
	if err != nil {
		return err
	}
	sameBoot := c.boot[0].Load() == boot[0] && c.boot[1].Load() == boot[1]
	if !sameBoot { // nobody is left who could be inside
		for i := range c.lines {
			closeLine(&c.lines[i])
			leave(&c.lines[i])
		}
	}
	c.boot[0].Store(boot[0])
	c.boot[1].Store(boot[1])
	c.pid.Store(uint64(e.self.pid))
	c.start.Store(e.self.start)
	return e.withdraw()
}

// withdraw closes all lines and clears all keys, and waits until nothing under them can land. Lines go first: to a peer
// whose key is gone the closed line says that the connection is.
func (e *Endpoint) withdraw() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	return e.await(e.withdrawn())
}

// withdrawn is the periods that withdraw has to wait for.
func (e *Endpoint) withdrawn() []period {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.control.lines {
		closeLine(&e.control.lines[i])
	}
	for i := range e.control.keys {
		e.control.keys[i].key.Store(0)
		e.locals[i].Store(nil)
	}
	clear(e.revoking)
	return e.inside(nil)
}

// closeLine ends a connection for the peer: it looks at gen whenever it sets busy.
func closeLine(l *line) {
	if gen := l.gen.Load(); odd(gen) {
		l.gen.Store(gen + 1)
	}
}

// leave ends the period of a peer that has died inside.
func leave(l *line) {
	if busy := l.busy.Load(); odd(busy) {
		l.busy.Store(busy + 1)
	}
}

// period is the time from one change of busy to odd to the next change, as somebody else sees it.
type period struct {
	busy *atomic.Uint64
	seen uint64  // odd
	who  process // who is inside; if it has died, nobody is. Zero: this process
}

func (p *period) over() bool {
	return p.busy.Load() != p.seen || p.who != (process{}) && p.who.exited()
}

// inside adds to out the periods that are running now, of peers and of this endpoint's own connections. Keys and
// generations that were withdrawn before the call, with a full fence behind, are not used in any later period.
func (e *Endpoint) inside(out []period) []period {
	barrier()
	for i := range e.control.lines {
		out = e.control.lines[i].inside(out)
	}
	for c := range e.conns {
		if seen := c.inside.Load(); odd(seen) {
			out = append(out, period{busy: &c.inside, seen: seen})
		}
	}
	return out
}

func (l *line) inside(out []period) []period {
	if seen := l.busy.Load(); odd(seen) {
		p := period{&l.busy, seen, process{int(l.pid.Load()), l.start.Load()}}
		if !p.over() {
			out = append(out, p)
		}
	}
	return out
}

// await waits, at most the revoke limit, until all periods are over.
func (e *Endpoint) await(periods []period) error {
	deadline := time.Now().Add(e.limit)
	for i := range periods {
		p := &periods[i]
		for pause := 10 * time.Microsecond; !p.over(); pause = min(2*pause, time.Millisecond) {
			if time.Now().After(deadline) {
				who := p.who
				if who == (process{}) {
					who = e.self
				}
				return fmt.Errorf("shm: %s: %v is inside an operation since more than %v (stopped?): resume or end it, then try again: %w",
					e.dir, who, e.limit, fabric.ErrInFlight)
			}
			time.Sleep(pause)
		}
	}
	return nil
}

// takeLine gives a line to the peer of c, and c to the endpoint: nobody is inside the line, and its inbox is empty. The
// caller holds e.setup.
func (e *Endpoint) takeLine(c *conn) (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	i, err := e.freeLine()
	if err != nil {
		return err
	}
	if e.inboxes[i] == nil { // not under e.mu: this writes to the disk
		path := filepath.Join(e.dir, inboxName(i))
		if e.inboxes[i], err = pmem.Map(path, inboxSize, pmem.Options{}); err != nil {
			return fmt.Errorf("shm: %w", err)
		}
	}
	l := &e.control.lines[i]
	c.line, c.index, c.in = l, i, newInbox(e.inboxes[i])
	c.in.words.tail.Store(0)
	c.in.words.head.Store(0)
	c.in.words.waiting.Store(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	leave(l)
	l.busy.Add(2) // whoever had the line before and does not know that it is closed finds another value: see conn.enter
	l.pid.Store(uint64(c.who.pid))
	l.start.Store(c.who.start)
	c.gen = l.gen.Add(1)
	e.conns[c] = struct{}{}
	return nil
}

func (e *Endpoint) freeLine() (int, error) {
	for i := range e.control.lines {
		l := &e.control.lines[i]
		if !odd(l.gen.Load()) && len(l.inside(nil)) == 0 {
			return i, nil
		}
	}
	return 0, fmt.Errorf("shm: %s has %d connections, which is the most: close some", e.dir, lines)
}

func inboxName(line int) string { return fmt.Sprintf("inbox.%d", line) }

// identity is which file a path named at some time.
type identity struct{ dev, ino uint64 }

func identityOf(f *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return identity{uint64(st.Dev), st.Ino}, nil
}
