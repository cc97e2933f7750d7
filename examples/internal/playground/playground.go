// Package playground is what every example needs before it can begin: a folder, endpoints and files in it. The first example does
// the same by hand.
package playground

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/mirror"
	"whale/pmem"
)

// Secret is what all endpoints of an example have in common.
var Secret = []byte("an example's secret, of 16 bytes or more")

// Size of the regions' memories.
const Size = 1 << 20

// Playground is a temporary folder and what lives in it.
type Playground struct {
	Dir     string
	closers []func()
}

// New makes one.
func New() *Playground {
	dir, err := os.MkdirTemp("", "whale-example")
	Must(err)
	return &Playground{Dir: dir, closers: []func(){func() { os.RemoveAll(dir) }}}
}

// Close ends and removes all of it, the newest first.
func (p *Playground) Close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		p.closers[i]()
	}
}

// Endpoint is a place on the fabric.
func (p *Playground) Endpoint(name string) fabric.Endpoint {
	e, err := shm.Open(filepath.Join(p.Dir, name+".fabric"), shm.Options{Secret: Secret})
	Must(err)
	p.closers = append(p.closers, func() { e.Close() })
	return e
}

// Memory is a mapped file. Opened again, it is the same bytes.
func (p *Playground) Memory(name string) *pmem.File {
	m, err := pmem.Map(filepath.Join(p.Dir, name), Size, pmem.Options{})
	Must(err)
	p.closers = append(p.closers, func() { m.Close() })
	return m
}

// Serve offers a memory to be a mirror, as `whale mirror serve` does. It returns the address, and what ends it.
func (p *Playground) Serve(name string, m pmem.Memory) (addr string, stop func()) {
	ep := p.Endpoint(name)
	export, err := mirror.NewExport(ep, m)
	Must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Must(export.Serve(ctx))
	}()
	stop = func() {
		cancel()
		<-done
		ep.Close()
	}
	p.closers = append(p.closers, stop)
	return ep.Addr(), stop
}

// Must ends the program if something went wrong: a real one would tell more, and go on.
func Must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
