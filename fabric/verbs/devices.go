//go:build verbs && cgo && linux

package verbs

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Devices lists the RDMA devices of this machine.
func Devices() ([]Device, error) {
	names, err := deviceNames()
	if err != nil {
		return nil, err
	}
	var out []Device
	for _, name := range names {
		out = append(out, inspect(name))
	}
	return out, nil
}

func inspect(name string) Device {
	info := Device{Name: name}
	d, err := openDevice(name)
	if err != nil {
		info.Err = err
		return info
	}
	defer d.close()
	f := capabilities(d)
	info.Vendor, info.Part, info.QueueDepth = uint32(d.about.vendor), uint32(d.about.part), int(d.about.max_wr)
	info.Atomics, info.AtomicWrite = f&atomics != 0, f&atomicWrite != 0
	info.FlushVisible, info.FlushDurable = f&flushVisible != 0, f&flushDurable != 0
	firmware := make([]byte, 0, len(d.about.firmware))
	for _, b := range d.about.firmware {
		firmware = append(firmware, byte(b))
	}
	firmware, _, _ = bytes.Cut(firmware, []byte{0})
	info.Firmware = string(firmware)
	gids, err := d.gids()
	if err != nil {
		info.Err = err
		return info
	}
	for _, g := range gids {
		if len(info.Ports) == 0 || info.Ports[len(info.Ports)-1].Number != g.port {
			p, err := d.port(g.port)
			if err != nil {
				info.Err = err
				return info
			}
			link := "InfiniBand"
			if p.link == linkEthernet {
				link = "Ethernet"
			}
			info.Ports = append(info.Ports, Port{Number: g.port, Active: p.state == portActive, Link: link})
		}
		port := &info.Ports[len(info.Ports)-1]
		port.GIDs = append(port.GIDs, GID{Index: g.index, Type: gidKinds[g.kind%len(gidKinds)], Addr: g.addr().String()})
	}
	return info
}

// capabilities are what the device serves.
func capabilities(d *device) (f feature) {
	if d.has(capFlushVisible) {
		f |= flushVisible
	}
	if d.has(capFlushDurable) {
		f |= flushDurable
	}
	if d.has(capAtomicWrite) {
		f |= atomicWrite
	}
	if d.about.atomics != 0 {
		f |= atomics
	}
	return f
}

// findDevice is the device and the address of it that the endpoint uses.
func findDevice(wanted string, listen *net.TCPAddr) (*device, gid, error) {
	name, portText, withPort := strings.Cut(wanted, ":")
	number := 0
	if withPort {
		var err error
		if number, err = strconv.Atoi(portText); err != nil || number < 1 || number > 255 {
			return nil, gid{}, fmt.Errorf("verbs: device %q: the port of a device is a number from 1 on", wanted)
		}
	}
	names, err := deviceNames()
	if err != nil {
		return nil, gid{}, err
	}
	if len(names) == 0 {
		return nil, gid{}, errors.New("verbs: this machine has no RDMA device: see `rdma link`, or add a soft-RoCE one to an Ethernet interface: rdma link add rxe0 type rxe netdev eth0")
	}
	if name != "" && !slices.Contains(names, name) {
		return nil, gid{}, fmt.Errorf("verbs: no device %q; there are: %s", name, strings.Join(names, ", "))
	}
	var devices []*device
	var gids []gid
	var found []candidate
	for _, n := range names {
		if name != "" && n != name {
			continue
		}
		d, err := openDevice(n)
		var g gid
		var exact bool
		if err == nil {
			g, exact, err = d.choose(number, listen)
		}
		devices, gids, found = append(devices, d), append(gids, g), append(found, candidate{n, exact, err})
	}
	chosen, err := pick(found, listen.IP)
	for i, d := range devices {
		if d != nil && (err != nil || i != chosen) {
			d.close()
		}
	}
	if err != nil {
		return nil, gid{}, err
	}
	return devices[chosen], gids[chosen], nil
}

// choose is the address of a device: on Ethernet the RoCE v2 one that is the listening IP address, on InfiniBand the first
// of the port, and not exact. number 0 is any port.
func (d *device) choose(number int, listen *net.TCPAddr) (_ gid, exact bool, err error) {
	gids, err := d.gids()
	if err != nil {
		return gid{}, false, fmt.Errorf("%s: reading its addresses: %w", d.name, err)
	}
	ip := listen.AddrPort().Addr().Unmap().WithZone("")
	for _, g := range gids {
		if number != 0 && g.port != number {
			continue
		}
		p, err := d.port(g.port)
		if err != nil {
			return gid{}, false, fmt.Errorf("%s, port %d: %w", d.name, g.port, err)
		}
		ethernet := p.link == linkEthernet
		if ethernet && (g.kind != gidRoCE2 || g.addr() != ip) || !ethernet && g.index != 0 {
			continue
		}
		if p.state != portActive {
			return gid{}, false, fmt.Errorf("%s, port %d is not active: is its cable in, its interface up, and on InfiniBand a subnet manager running?", d.name, g.port)
		}
		return g, ethernet, nil
	}
	return gid{}, false, fmt.Errorf("%s has not that address; it has: %s (the listening address is to be one of the device's interface)", d.name, describe(gids))
}
