import { startCluster } from '/work/main/test/cluster/cluster.ts';
import { startOperator, leaderOf, operatorUser } from '/work/main/test/cluster/operator.ts';
import { StandInEcr } from '/work/main/test/cluster/standInEcr.ts';
import { crd } from '/work/main/src/api/clusterEcrPullSecret.ts';
const cluster = await startCluster();
try {
  await cluster.admin.apply(crd() as never);
  await cluster.kubectl('create','namespace','ecr-pull-secrets');
  await cluster.kubectl('wait','--for=condition=Established','crd/clusterecrpullsecrets.ecr.pullsecrets.io');
  const ecr = await StandInEcr.start();
  const N = 200;
  for (let i=0;i<N;i++) await cluster.admin.create({apiVersion:'v1',kind:'Namespace',metadata:{name:`n${i}`}} as never);
  const op = await startOperator({cluster, kubeconfig: cluster.kubeconfig, env: ecr.env, args:['--log-level=debug']});
  const t=Date.now();
  await cluster.admin.create({apiVersion:'ecr.pullsecrets.io/v1alpha1',kind:'ClusterECRPullSecret',metadata:{name:'r'},spec:{registries:[{host:'123456789012.dkr.ecr.us-east-1.amazonaws.com'}],namespaces:{},verification:{mode:'Disabled'}}} as never);
  await new Promise(r=>setTimeout(r,45000));
  console.log(await cluster.kubectl('get','cecr','-o','wide'));
  console.log(await cluster.kubectl('get','cecr','-o','yaml'));
  console.log((await cluster.kubectl('get','secrets','-A')).split('\n').length, ecr.calls);
  console.log(await cluster.kubectl('get','events','-A'));
  console.log(op.output().slice(0,3000)); console.log(op.output().slice(-3000));
  console.log('exit', await op.stop());
} finally { await cluster.stop(); }
process.exit(0)
