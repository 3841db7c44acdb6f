import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';

/**
 * Metadata services of clouds at public addresses:
 * https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
 */
const METADATA_SERVICES = ['168.63.129.16'];

/** May the service call this address? */
export type AddressPolicy = (address: string) => boolean;

/** @param networks addresses and networks of the operator's own, such as 10.0.0.0/8 */
function addressMatcher(networks: readonly string[]): AddressPolicy {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const family = familyOf(address);
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (address) => list.check(address, familyOf(address));
}

/** What IANA allocates of IPv6, https://www.iana.org/assignments/ipv6-address-space; ::127.0.0.1 is outside. */
const GLOBAL_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3');

/** Not loopback, private, link-local, carrier-grade, mapped, translated, unassigned, or of a metadata service. */
export const isPublic: AddressPolicy = (address) => {
  const parsed = ipaddr.parse(address);
  const isGlobal = !(parsed instanceof ipaddr.IPv6) || parsed.match(GLOBAL_IPV6);
  return isGlobal && parsed.range() === 'unicast' && !METADATA_SERVICES.includes(address);
};

/**
 * A dns.lookup that returns only allowed addresses, and the connection uses no others. It refuses a name that has any
 * forbidden address. For a host that is an address, which Node does not look up, use `allowsHost`.
 * @param lookup resolves names
 */
export const guardedLookup =
  (isAllowed: AddressPolicy, lookup: LookupFunction = systemLookup as LookupFunction): LookupFunction =>
  (hostname, options: LookupOptions, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      const addresses = found as unknown as LookupAddress[];
      if (error) return callback(error, []);
      const isPermitted = addresses.length > 0 && addresses.every(({ address }) => isAllowed(address));
      if (!isPermitted) return callback(new Error(FORBIDDEN_ADDRESS), []);
      const [first] = addresses as [LookupAddress];
      if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };

/** Allowed addresses by scheme of the URL: http only in the operator's own networks. */
export type SchemePolicies = { readonly 'https:': AddressPolicy; readonly 'http:': AddressPolicy };

/** @param networks addresses and networks of the operator's own, such as 10.0.0.0/8 */
export function schemePolicies(networks: readonly string[]): SchemePolicies {
  const isOwn = addressMatcher(networks);
  return { 'https:': (address) => isOwn(address) || isPublic(address), 'http:': isOwn };
}

/** May the service call this URL? True for every name: `guardedLookup` checks what it resolves to. */
export function allowsHost(policy: SchemePolicies, url: URL): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return isIP(host) === 0 || policy[url.protocol as keyof SchemePolicies](host);
}

export const FORBIDDEN_ADDRESS = 'its address is neither public nor in WEBHOOK_ALLOWED_NETWORKS';

const familyOf = (address: string): 'ipv4' | 'ipv6' => (isIP(address) === 6 ? 'ipv6' : 'ipv4');
