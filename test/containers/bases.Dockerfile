# Stand-ins for the images that cannot be pulled, on a Debian from debootstrap; run.sh builds them.

# postgres:<major>, and with another UID an operand image of CloudNativePG
ARG DEBIAN=trixie
FROM debian:${DEBIAN} AS postgres
ARG PG_MAJOR=17
ARG ID=999
RUN groupadd -r postgres --gid=999 && \
	useradd -r -g postgres --uid=${ID} --home-dir=/var/lib/postgresql --shell=/bin/bash postgres && \
	mkdir -p /docker-entrypoint-initdb.d /etc/postgresql-common && \
	echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf && \
	apt-get update && apt-get install -y --no-install-recommends postgresql-${PG_MAJOR} gosu && apt-get clean
COPY test/containers/entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PG_MAJOR=${PG_MAJOR} PGDATA=/var/lib/postgresql/data PATH=$PATH:/usr/lib/postgresql/${PG_MAJOR}/bin
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]

FROM debian:${DEBIAN} AS node
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm && apt-get clean && useradd -m node
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
