// probe lookup NAME: what Go's own resolver finds, an address a line. probe get URL: the body.
// probe wait: until it is stopped.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "wait":
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		<-stop
		return nil
	case len(args) == 2 && args[0] == "lookup":
		found, err := net.LookupHost(args[1])
		for _, address := range found {
			fmt.Println(address)
		}
		return err
	case len(args) == 2 && args[0] == "get":
		response, err := http.Get(args[1])
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, response.Body)
		return err
	}
	return fmt.Errorf("usage: probe lookup NAME | get URL | wait")
}
