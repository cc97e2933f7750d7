// Package certs makes and loads the certificates with which nodes know each other: one authority of the cluster's own,
// and a certificate for each node that it has signed. Elliptic curve keys (P-256), TLS 1.3.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files in the folder of [Create].
const (
	CACert   = "ca.crt"   // every node and client needs it
	CAKey    = "ca.key"   // only to make further certificates: keep it elsewhere
	NodeCert = "node.crt" // of a node
	NodeKey  = "node.key"
)

const (
	caYears   = 20
	nodeYears = 5
)

// Create makes a certificate and its key in dir for a node that is reached by the names, which are host names or IP
// addresses, signed by the authority in dir. Without one there, it makes that first. Files that are there are never
// overwritten: a node's certificate that is there is an error. It returns the files it made.
func Create(dir string, names []string) (made []string, err error) {
	if len(names) == 0 {
		return nil, errors.New("no names: give the host names or IP addresses by which the node is reached")
	}
	for _, name := range names {
		if name == "" {
			return nil, errors.New("an empty name: give host names or IP addresses")
		}
	}
	for _, name := range []string{NodeCert, NodeKey} {
		if path := filepath.Join(dir, name); exists(path) {
			return nil, fmt.Errorf("%s is there already: give another --dir (with a copy of %s and %s of this one, if the nodes are to trust each other), or remove it", path, CACert, CAKey)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca, key, made, err := authority(dir)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0], Organization: []string{"Whale"}}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	node, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return made, err
	}
	if err := write(dir, NodeCert, NodeKey, template, ca, node, key, nodeYears); err != nil {
		return made, err
	}
	return append(made, filepath.Join(dir, NodeCert), filepath.Join(dir, NodeKey)), nil
}

// authority is the one in dir, made if there is none.
func authority(dir string) (ca *x509.Certificate, key *ecdsa.PrivateKey, made []string, err error) {
	certPath, keyPath := filepath.Join(dir, CACert), filepath.Join(dir, CAKey)
	switch has, hasKey := exists(certPath), exists(keyPath); {
	case has && hasKey:
		pair, err := tls.LoadX509KeyPair(certPath, keyPath)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%s and %s: %w", certPath, keyPath, err)
		}
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok || !pair.Leaf.IsCA {
			return nil, nil, nil, fmt.Errorf("%s is not an authority with an elliptic curve key: give another --dir", certPath)
		}
		return pair.Leaf, key, nil, nil
	case has:
		return nil, nil, nil, fmt.Errorf("%s is there and %s is not, which signs certificates: bring it back, or start anew with another --dir", certPath, keyPath)
	case hasKey:
		return nil, nil, nil, fmt.Errorf("%s is there and %s is not: bring it back, or start anew with another --dir", keyPath, certPath)
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, nil, err
	}
	ca = &x509.Certificate{
		Subject: pkix.Name{CommonName: "Whale cluster", Organization: []string{"Whale"}}, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if err := write(dir, CACert, CAKey, ca, ca, key, key, caYears); err != nil {
		return nil, nil, nil, err
	}
	return ca, key, []string{certPath, keyPath}, nil
}

// write signs a certificate for key and puts both into files that are not there yet.
func write(dir, cert, keyName string, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey, years int) (err error) {
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return err
	}
	template.NotBefore = time.Now().Add(-time.Hour) // clocks differ
	template.NotAfter = template.NotBefore.AddDate(years, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, keyName), "PRIVATE KEY", secret); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, cert), "CERTIFICATE", der)
}

// writePEM makes a file of mode 0600.
func writePEM(path, kind string, der []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
