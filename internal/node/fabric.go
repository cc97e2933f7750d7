package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"slices"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/fabric/tcp"
	"whale/fabric/verbs"
	"whale/internal/shard"
	"whale/pmem"
)

// What connects the members: [Config.Fabric].
const (
	FabricSHM = "shm" // shared memory, on one machine
	FabricTCP = "tcp"
	// FabricVerbs is RDMA, in a program that was built with the tag verbs.
	FabricVerbs = "verbs"
)

// checkFabric settles what the members are called and where this one is.
func (cfg *Config) checkFabric() error {
	orElse(&cfg.Fabric, FabricSHM)
	if cfg.Fabric != FabricVerbs && (cfg.Device != "" || cfg.DirectWrite) {
		return fmt.Errorf("--device and --direct-write are for --fabric verbs, and this is --fabric %s", cfg.Fabric)
	}
	switch cfg.Fabric {
	case FabricSHM:
		if cfg.FabricListen != "" {
			return fmt.Errorf("--fabric-listen %s: it is for --fabric tcp or verbs, and this is --fabric %s", cfg.FabricListen, cfg.Fabric)
		}
		own := cfg.Peers[cfg.ID]
		if orElse(&cfg.Dir, own); filepath.Clean(cfg.Dir) != filepath.Clean(own) {
			return fmt.Errorf("--dir %s is not what --peers has at place %d (--id): %s", cfg.Dir, cfg.ID, own)
		}
		return distinct(cfg.Peers)
	case FabricTCP, FabricVerbs:
		if cfg.Dir == "" {
			return fmt.Errorf("--dir is missing: with --fabric %s, --peers says where members listen, not where this one's data is", cfg.Fabric)
		}
		if err := cfg.checkAddresses(); err != nil {
			return err
		}
		if cfg.Fabric == FabricVerbs && !verbs.Built {
			return verbs.ErrNotBuilt
		}
		return nil
	}
	return fmt.Errorf("--fabric %q: expected %s, %s or %s", cfg.Fabric, FabricSHM, FabricTCP, FabricVerbs)
}

// checkAddresses: over a network, members have different addresses, and this one's is loopback unless more is allowed.
func (cfg *Config) checkAddresses() error {
	seen := map[string]int{}
	for i, addr := range cfg.Peers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("--peers: %q: expected host:port of each member's fabric, because of --fabric %s", addr, cfg.Fabric)
		}
		if first, ok := seen[addr]; ok {
			return fmt.Errorf("members %d and %d have the same address %s: give each its own in --peers", first, i, addr)
		}
		seen[addr] = i
	}
	orElse(&cfg.FabricListen, cfg.Peers[cfg.ID])
	ap, err := resolve(cfg.FabricListen)
	if err != nil {
		return fmt.Errorf("fabric: %w (--fabric-listen, or this node's entry in --peers)", err)
	}
	if cfg.Fabric == FabricVerbs && !cfg.Insecure && !ap.Addr().IsLoopback() {
		return fmt.Errorf("the fabric address %s can be reached from outside, and RDMA encrypts nothing, also with TLS: accept that with --insecure, on a network of your own", cfg.FabricListen)
	}
	if !cfg.Insecure && !cfg.TLS.On() && !ap.Addr().IsLoopback() {
		return fmt.Errorf("the fabric address %s can be reached from outside, and what members send to each other is not encrypted: "+
			"use TLS (--tls-cert; whale cert makes what it needs), or a loopback address, or accept that with --insecure", cfg.FabricListen)
	}
	return nil
}

// names are what messages call the members: by folders where they are known here.
func (cfg *Config) names() []string {
	names := slices.Clone(cfg.Peers)
	names[cfg.ID] = cfg.Dir
	return names
}

// buffers are memory for messages. An RDMA device is given mapped memory only.
func (cfg *Config) buffers() (pmem.Memory, error) {
	size := shard.BufferSize(len(cfg.Peers))
	if cfg.Fabric == FabricVerbs {
		return pmem.Anonymous(size)
	}
	return pmem.Heap(size), nil
}

// openFabric makes this node's endpoint. secure is nil without TLS; domain is that of the memory that peers will write.
func openFabric(cfg *Config, secret []byte, secure *tls.Config, domain pmem.Domain) (fabric.Endpoint, error) {
	if cfg.Fabric == FabricTCP {
		e, err := tcp.Open(tcp.Options{Listen: cfg.FabricListen, Secret: secret, TLS: secure, Domain: domain})
		if err != nil {
			return nil, fmt.Errorf("%w: choose another address with --fabric-listen, or in --peers", err)
		}
		return e, nil
	}
	if cfg.Fabric == FabricVerbs {
		return verbs.Open(verbs.Options{Listen: cfg.FabricListen, Device: cfg.Device, Secret: secret, Domain: domain, DirectWrite: cfg.DirectWrite})
	}
	e, err := shm.Open(cfg.Dir, shm.Options{Secret: secret})
	if err != nil {
		return nil, err
	}
	return e, nil
}
