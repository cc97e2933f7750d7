package fsload

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/pmfs"
)

// nfs is the file server of filebench, seen by the file system below the server: files are made, appended to in blocks, read,
// renamed, and removed.
type nfs struct{ files int }

const (
	nfsMax   = 64 << 10 // bytes of a file
	nfsWrite = pmfs.BlockSize
)

func (l *nfs) prepare(s *step) (more bool, err error) {
	n := s.dir.Size(s.tx)
	name := strconv.FormatUint(n, 10)
	node, err := s.Create(s.tx, s.dir, name)
	if err == nil {
		err = s.appendStuff(node, name, n%4*nfsWrite)
	}
	return n+1 < uint64(l.files)/2, err
}

func (l *nfs) draw(g *workload.Thread) func(*step) error {
	kind, which, name := g.Rand.IntN(100), g.Rand.Uint64(), newName(g)
	return func(s *step) error {
		has := s.dir.Size(s.tx)
		old, node, ok := s.nth(s.dir, which)
		switch {
		case !ok || kind < 8 && has < uint64(l.files):
			_, err := s.Create(s.tx, s.dir, name)
			return err
		case kind < 12:
			return s.Remove(s.tx, s.dir, old)
		case kind < 60 && node.Size(s.tx)+nfsWrite <= nfsMax:
			return s.appendStuff(node, owner(old), nfsWrite)
		case kind < 64 && strings.Count(old, "~") == 0:
			return s.Rename(s.tx, s.dir, old, s.dir, old+"~")
		default:
			_, err := s.read(node)
			return err
		}
	}
}

// owner is the name that a file got when it was made.
func owner(name string) string { return strings.TrimSuffix(name, "~") }

func (l *nfs) check(s *step, path string, node pmfs.Inode) error {
	return s.checkStuff(node, owner(path))
}

// exim is a mail server: a message is made in the spool, its header and its body are written in pieces, it is moved into the inbox,
// read, and removed when the inbox is full.
type exim struct{ files int }

const eximPiece = 1 << 10

func (l *exim) prepare(s *step) (more bool, err error) {
	for _, name := range []string{"spool", "inbox"} {
		if _, err := s.Mkdir(s.tx, s.dir, name); err != nil {
			return false, err
		}
	}
	return false, nil
}

// messageSize is how long a message is.
func messageSize(name string) uint64 {
	return 400 + binary.LittleEndian.Uint64(stuff(name, 1<<40, 8))%4000
}

func (l *exim) draw(g *workload.Thread) func(*step) error {
	kind, which, name := g.Rand.IntN(100), g.Rand.Uint64(), newName(g)
	return func(s *step) error {
		spool, err := s.Lookup(s.tx, s.dir, "spool")
		if err != nil {
			return err
		}
		inbox, err := s.Lookup(s.tx, s.dir, "inbox")
		if err != nil {
			return err
		}
		if kind < 10 {
			if _, mail, ok := s.nth(inbox, which); ok {
				_, err := s.read(mail)
				return err
			}
		}
		message, node, ok := s.nth(spool, 0)
		switch {
		case inbox.Size(s.tx) >= uint64(l.files):
			old, _, _ := s.nth(inbox, which)
			return s.Remove(s.tx, inbox, old)
		case !ok:
			_, err := s.Create(s.tx, spool, name)
			return err
		}
		if left := messageSize(message) - node.Size(s.tx); left > 0 {
			return s.appendStuff(node, message, min(left, eximPiece))
		}
		return s.Rename(s.tx, spool, message, inbox, message)
	}
}

func (l *exim) check(s *step, path string, node pmfs.Inode) error {
	dir, name, _ := strings.Cut(path, "/")
	size := node.Size(s.tx)
	if dir != "spool" && (dir != "inbox" || size != messageSize(name)) || size > messageSize(name) {
		return fmt.Errorf("%w: it has %d bytes, a message that is whole %d", app.ErrDamaged, size, messageSize(name))
	}
	return s.checkStuff(node, name)
}

// mysql is a database: it appends to a log, and now and then writes a page of its table, which says up to which record of the log it
// goes. Logs that are full are replaced.
type mysql struct{ pages int }

const (
	pageSize   = 16 << 10
	recordSize = 512
	records    = 64 // of a log
)

func (l *mysql) prepare(s *step) (more bool, err error) {
	if s.dir.Size(s.tx) == 0 {
		logs, err := s.Mkdir(s.tx, s.dir, "logs")
		if err == nil {
			_, err = s.Create(s.tx, logs, "0")
		}
		if err == nil {
			_, err = s.Create(s.tx, s.dir, "table")
		}
		return true, err
	}
	table, err := s.Lookup(s.tx, s.dir, "table")
	if err != nil {
		return false, err
	}
	number := table.Size(s.tx) / pageSize
	return number+1 < uint64(l.pages), s.WriteAt(s.tx, table, number*pageSize, page(number, 0))
}

// page is what a page looks like that goes up to a record of the log.
func page(number, upTo uint64) []byte {
	b := make([]byte, pageSize)
	binary.LittleEndian.PutUint64(b, upTo)
	app.Fill(b[8:], app.Mix(number)^upTo)
	return b
}

// record is a record of the log.
func record(number uint64) []byte {
	b := make([]byte, recordSize)
	binary.LittleEndian.PutUint64(b, number)
	app.Fill(b[8:], app.Mix(number))
	return b
}

// logs are the first and the last log, and how many records there have ever been.
func (s *step) logs() (dir pmfs.Inode, first, last, count uint64, err error) {
	if dir, err = s.Lookup(s.tx, s.dir, "logs"); err != nil {
		return
	}
	first = ^uint64(0)
	s.List(s.tx, dir, func(name string, node pmfs.Inode) bool {
		var n uint64
		if n, err = strconv.ParseUint(name, 10, 32); err != nil {
			err = fmt.Errorf("%w: a log called %q", app.ErrDamaged, name)
			return false
		}
		first = min(first, n)
		if n >= last {
			last, count = n, n*records+node.Size(s.tx)/recordSize
		}
		return true
	})
	return
}

func (l *mysql) draw(g *workload.Thread) func(*step) error {
	kind, number := g.Rand.IntN(100), g.Rand.Uint64N(uint64(l.pages))
	return func(s *step) error {
		logs, first, last, count, err := s.logs()
		if err != nil {
			return err
		}
		table, err := s.Lookup(s.tx, s.dir, "table")
		switch {
		case err != nil:
			return err
		case kind < 20:
			_, err = s.ReadAt(s.tx, table, number*pageSize, make([]byte, pageSize))
			return err
		case kind < 35:
			return s.WriteAt(s.tx, table, number*pageSize, page(number, count))
		case count == (last+1)*records:
			_, err := s.Create(s.tx, logs, strconv.FormatUint(last+1, 10))
			return err
		case last > first+1:
			return s.Remove(s.tx, logs, strconv.FormatUint(first, 10))
		}
		node, err := s.Lookup(s.tx, logs, strconv.FormatUint(last, 10))
		if err != nil {
			return err
		}
		return s.WriteAt(s.tx, node, node.Size(s.tx), record(count))
	}
}

func (l *mysql) check(s *step, path string, node pmfs.Inode) error {
	b, err := s.read(node)
	if err != nil {
		return err
	}
	_, _, _, count, err := s.logs()
	if err != nil {
		return err
	}
	if path == "table" {
		return l.checkTable(b, count)
	}
	log, err := strconv.ParseUint(strings.TrimPrefix(path, "logs/"), 10, 32)
	if err != nil || len(b) > records*recordSize || len(b)%recordSize != 0 {
		return fmt.Errorf("%w: a log of %d bytes", app.ErrDamaged, len(b))
	}
	for i := 0; i < len(b)/recordSize; i++ {
		if string(b[i*recordSize:][:recordSize]) != string(record(log*records+uint64(i))) {
			return fmt.Errorf("%w: record %d is not what it should be", app.ErrDamaged, i)
		}
	}
	return nil
}

// checkTable: all pages are whole, and none is ahead of the log.
func (l *mysql) checkTable(b []byte, count uint64) error {
	if len(b) != l.pages*pageSize {
		return fmt.Errorf("%w: %d bytes, want %d pages", app.ErrDamaged, len(b), l.pages)
	}
	for number := range uint64(l.pages) {
		p := b[number*pageSize:][:pageSize]
		if upTo := binary.LittleEndian.Uint64(p); upTo > count || string(p) != string(page(number, upTo)) {
			return fmt.Errorf("%w: page %d says that it goes up to record %d of %d, and is torn or ahead", app.ErrDamaged, number, upTo, count)
		}
	}
	return nil
}
