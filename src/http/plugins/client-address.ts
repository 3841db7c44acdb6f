import { BlockList, isIP } from 'node:net';
import type { FastifyRequest } from 'fastify';
import ipaddr from 'ipaddr.js';

/** Bits of an IPv6 address that name one customer's network, which has 2^64 addresses. */
const IPV6_NETWORK_BITS = 64;

/** Forms that some proxies write: `1.2.3.4:5678`, `[2001:db8::1]:5678`, `[2001:db8::1]`. */
const WITH_PORT = /^(?:(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}|\[([0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::\d{1,5})?)$/;

/**
 * An address as the service writes it: without port and zone, and an IPv4 address mapped into IPv6 as IPv4. Undefined
 * if the text is no address.
 */
export function parseAddress(text: string): string | undefined {
  const [, v4, v6] = WITH_PORT.exec(text) ?? [];
  const address = (v4 ?? v6 ?? text).replace(/%.*$/, '');
  return isIP(address) ? ipaddr.process(address).toString() : undefined;
}

/**
 * Address of the client: the one that a trusted proxy reports, if it is valid, else that of the connection; `unknown`
 * once the connection has broken.
 */
export function clientAddress({ ip, socket }: FastifyRequest): string {
  const reported: string | undefined = ip;
  return parseAddress(reported ?? '') ?? parseAddress(socket.remoteAddress ?? '') ?? 'unknown';
}

/** Unit of a limit by address: an IPv4 address, or the network of an IPv6 address. */
export function addressGroup(address: string): string {
  if (isIP(address) !== 6) return address;
  const bytes = ipaddr.parse(address).toByteArray();
  const network = bytes.map((byte, i) => (i < IPV6_NETWORK_BITS / 8 ? byte : 0));
  return `${ipaddr.fromByteArray(network).toString()}/${IPV6_NETWORK_BITS}`;
}

/**
 * Proxies that fastify trusts, from TRUST_PROXY: all, none, or those of a list of addresses and networks. Their
 * addresses may have a port.
 */
export function trustedProxies(setting: boolean | string): boolean | ((address: string) => boolean) {
  if (typeof setting === 'boolean') return setting;
  const trusted = new BlockList();
  for (const part of setting.split(',')) {
    const [network = '', bits] = part.trim().split('/');
    const address = parseAddress(network) ?? network;
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) trusted.addAddress(address, family);
    else trusted.addSubnet(address, Number(bits), family);
  }
  return (text) => {
    const address = parseAddress(text);
    return address !== undefined && trusted.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  };
}
