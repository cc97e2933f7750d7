//go:build linux

package main

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/fabric/tcp"
	"whale/fabric/verbs"
	"whale/internal/certs"
	"whale/internal/node"
	"whale/pmem"
)

// endpointFlags say how one side of a mirror meets the other.
type endpointFlags struct {
	fabric, listen string
	secret, device string
	direct         bool
	insecure       bool
	tls            certs.Files
}

func (s *endpointFlags) bind(cmd *cobra.Command, what, listen string) {
	fl := cmd.Flags()
	fl.StringVar(&s.fabric, "fabric", node.FabricSHM, what+": shm, tcp or verbs")
	fl.StringVar(&s.listen, "listen", listen, "tcp, verbs: host and port of this side")
	fl.StringVar(&s.secret, "secret", "", "file with the secret that both sides have: 64 hexadecimal digits, mode 0600 (required)")
	fl.StringVar(&s.device, "device", "", "verbs: the RDMA device; default: the one that has the address")
	fl.BoolVar(&s.direct, "direct-write", false, "verbs: this side's card writes past the CPU's caches (DDIO is off)")
	fl.BoolVar(&s.insecure, "insecure", false, "tcp, verbs: listen beyond this machine without TLS")
	fl.StringVar(&s.tls.Cert, "tls-cert", "", "tcp: certificate of this side")
	fl.StringVar(&s.tls.Key, "tls-key", "", "tcp: its key")
	fl.StringVar(&s.tls.CA, "tls-ca", "", "tcp: authority of all certificates")
	cmd.MarkFlagRequired("secret")
}

// open makes the endpoint. Over shared memory its place is the folder dir.
func (s *endpointFlags) open(dir string, domain pmem.Domain) (fabric.Endpoint, error) {
	secret, err := node.ReadSecret(s.secret)
	if err != nil {
		return nil, err
	}
	if s.tls.On() && s.fabric != node.FabricTCP {
		return nil, fmt.Errorf("mirror: TLS goes over tcp only, not over %s", s.fabric)
	}
	switch s.fabric {
	case node.FabricSHM:
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		return shm.Open(dir, shm.Options{Secret: secret})
	case node.FabricTCP:
		if err := s.reachable(); err != nil {
			return nil, err
		}
		o := tcp.Options{Listen: s.listen, Secret: secret, Domain: domain}
		if s.tls.On() {
			if o.TLS, err = s.tls.Load(); err != nil {
				return nil, err
			}
		}
		return tcp.Open(o)
	case node.FabricVerbs:
		if err := s.reachable(); err != nil {
			return nil, err
		}
		return verbs.Open(verbs.Options{Listen: s.listen, Device: s.device, Secret: secret, Domain: domain, DirectWrite: s.direct})
	}
	return nil, fmt.Errorf("mirror: --fabric %s: want shm, tcp or verbs", s.fabric)
}

// reachable refuses an address that others reach, unless somebody has accepted that.
func (s *endpointFlags) reachable() error {
	addr, err := net.ResolveTCPAddr("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("mirror: --listen %s: %w; want host:port", s.listen, err)
	}
	if addr.IP.IsLoopback() || s.insecure || s.tls.On() {
		return nil
	}
	return fmt.Errorf("mirror: %s can be reached from outside, and what primaries write is not encrypted: use TLS (--tls-cert; whale cert makes what it needs), "+
		"or a loopback address, or accept that with --insecure", s.listen)
}
