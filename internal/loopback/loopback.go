//go:build linux

// Package loopback opens endpoints of any provider of the fabric for two sides on one machine, as measurements want them.
package loopback

import (
	"errors"
	"fmt"
	"net"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/fabric/tcp"
	"whale/fabric/verbs"
	"whale/pmem"
)

// Providers are those that every machine has. Another one is verbs, on the first RDMA device that is active.
var Providers = []string{"shm", "tcp"}

const secret = "of a benchmark on one machine, which protects nothing"

// Memory is what an endpoint tells its peers of the memory that will be registered, for providers that cannot tell.
type Memory struct {
	Domain      pmem.Domain
	DirectWrite bool // verbs: the card's writes pass the caches by, see [verbs.Options]
}

// Open makes an endpoint at an address of its own choice. dir is a folder for what the provider keeps.
func Open(provider, dir string, m Memory) (fabric.Endpoint, error) {
	switch provider {
	case "shm":
		return shm.Open(dir, shm.Options{Secret: []byte(secret)})
	case "tcp":
		return tcp.Open(tcp.Options{Listen: "127.0.0.1:0", Secret: []byte(secret), Domain: m.Domain})
	case "verbs":
		o, err := activeDevice()
		if err != nil {
			return nil, err
		}
		o.Secret, o.Domain, o.DirectWrite = []byte(secret), m.Domain, m.DirectWrite
		return verbs.Open(o)
	}
	return nil, fmt.Errorf("provider %q: expected one of %v, or verbs", provider, Providers)
}

// activeDevice is the first RDMA device that can be used, and an address of it.
func activeDevice() (o verbs.Options, err error) {
	devices, err := verbs.Devices()
	if err != nil {
		return o, err
	}
	for _, d := range devices {
		for _, p := range d.Ports {
			for _, g := range p.GIDs {
				o.Device = fmt.Sprintf("%s:%d", d.Name, p.Number)
				switch ip := net.ParseIP(g.Addr); {
				case !p.Active:
				case p.Link == "InfiniBand":
					o.Listen = "127.0.0.1:0"
					return o, nil
				case g.Type == "RoCE v2" && !ip.IsLinkLocalUnicast():
					o.Listen = net.JoinHostPort(g.Addr, "0")
					return o, nil
				}
			}
		}
	}
	return o, errors.New("no RDMA device of this machine has an active port with an IP address: see whale fabric list")
}
